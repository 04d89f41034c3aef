"""Which cells of a grid of codes lie wholly inside a rectangle of the image: what stays when the rest is redrawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import shown

__all__ = ["Rectangle", "check_rectangle", "kept_cells"]

Rectangle = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels: columns x0 … x1 - 1 of rows y0 … y1 - 1."""


def check_rectangle(keep: Sequence[int], shape: tuple[int, int]) -> Rectangle:
    """`keep` as integers. Raises `RequestError` when it is no rectangle, is empty, or leaves the image of (H, W)."""
    height, width = shape
    advice = f"x0,y0,x1,y1 with 0 ≤ x0 < x1 ≤ {width} (columns) and 0 ≤ y0 < y1 ≤ {height} (rows)"
    whole = np.asarray(keep)
    if whole.shape != (4,) or whole.dtype.kind not in "iu":
        raise RequestError(f"keep is {shown(keep)}, expected four integers, {advice}.")
    x0, y0, x1, y1 = (int(value) for value in whole)
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        what = "is empty" if x1 <= x0 or y1 <= y0 else "leaves the image"
        raise RequestError(f"keep is {x0},{y0},{x1},{y1}, which {what}; expected {advice}.")
    return x0, y0, x1, y1


def kept_cells(keep: Rectangle, image: tuple[int, int], grid: tuple[int, int]) -> NDArray[np.bool_]:
    """bool [h, w]: True where the cell, of H/h × W/w pixels, lies wholly inside `keep`. Exact also where h does not
    divide H."""
    x0, y0, x1, y1 = keep
    columns, rows = (_inside(low, high, image[axis], grid[axis]) for axis, low, high in ((1, x0, x1), (0, y0, y1)))
    return rows[:, None] & columns[None]


def _inside(low: int, high: int, pixels: int, cells: int) -> NDArray[np.bool_]:
    first = np.arange(cells) * pixels  # in units of 1 / cells of a pixel
    result: NDArray[np.bool_] = (first >= low * cells) & (first + pixels <= high * cells)
    return result
