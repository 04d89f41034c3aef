"""The 8-bit grid: where the 256 grey levels of a channel lie in [-1, 1]. Level v is at (v - 127.5) / 127.5.

The original rescales so (neocxi/pixelsnail-public, train.py). Both ways are exact: the float32 numbers of `from_uint8`
are those that the graphs round to, bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixelsnail_infer.errors import RequestError

__all__ = ["from_uint8", "snap", "to_uint8"]

HALF = np.float32(127.5)


def from_uint8(images: ArrayLike) -> NDArray[np.float32]:
    """Float32 numbers in [-1, 1], of the same shape, of grey levels uint8. Raises `RequestError` for another dtype."""
    array = np.asarray(images)
    if array.dtype != np.uint8:
        raise RequestError(f"images has dtype {array.dtype}, expected uint8.")
    result: NDArray[np.float32] = (array.astype(np.float32) - HALF) / HALF
    return result


def to_uint8(images: ArrayLike) -> NDArray[np.uint8]:
    """The nearest grey levels uint8, of the same shape, of numbers in [-1, 1]; numbers beyond are clipped.

    NaN, which stands for a pixel that was not drawn, becomes 0. Raises `RequestError` unless `images` holds
    floating-point numbers.
    """
    array = np.asarray(images)
    if array.dtype.kind != "f":
        raise RequestError(f"images has dtype {array.dtype}, expected floating-point numbers in [-1, 1].")
    levels = np.rint(np.clip(array, -1, 1).astype(np.float32) * HALF + HALF)
    result: NDArray[np.uint8] = np.nan_to_num(levels, nan=0.0).astype(np.uint8)
    return result


def snap(values: NDArray[Any]) -> NDArray[np.float32]:
    """Float32 numbers in [-1, 1], rounded to the grid; ties go to the even level, as in the graphs."""
    result: NDArray[np.float32] = (np.rint(values.astype(np.float32) * HALF + HALF) - HALF) / HALF
    return result
