"""A labelled picture grid of codes. Codes are shown as grey levels: 0 is black, the last level white."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.errors import BackendError

_TILE = 64  # the side that tiles are enlarged to, about
_GAP = 4
_CAPTION = 14
_WIDEST = 20


def grey(codes: NDArray[np.int64], levels: int) -> NDArray[np.uint8]:
    """Grey levels uint8, of the same shape, of codes 0 … levels - 1; a code that is not drawn (-1) is black."""
    scaled = np.clip(codes, 0, None) * 255.0 / max(levels - 1, 1)
    return np.round(scaled).astype(np.uint8)


def grid_columns(n: int, labels: Sequence[int] | None = None) -> int:
    """Columns of a grid of n tiles: one per label when there are a few, else about as many as rows."""
    if labels and 1 < len(labels) <= _WIDEST:
        return min(n, len(labels))
    return math.ceil(math.sqrt(n))


def require_pillow() -> None:
    """Raise `BackendError` now if pictures cannot be written."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise BackendError("Pictures need Pillow: install it (pip install pillow), or write a .npy file.") from error


def png_grid(
    codes: NDArray[np.int64],
    levels: int,
    *,
    captions: Sequence[str] | None = None,
    columns: int | None = None,
    scale: int | None = None,
) -> bytes:
    """PNG bytes of a grid of n tiles from codes [n, H, W], each enlarged `scale` times, with an optional caption."""
    require_pillow()
    from PIL import Image, ImageDraw

    n, height, width = codes.shape
    across = columns or grid_columns(n)
    times = scale or max(1, round(_TILE / max(height, width)))
    head = _CAPTION if captions else 0
    cell_w, cell_h = width * times + _GAP, height * times + head + _GAP
    picture = Image.new("L", (across * cell_w + _GAP, math.ceil(n / across) * cell_h + _GAP), 96)
    pen = ImageDraw.Draw(picture)
    for k, tile in enumerate(grey(codes, levels)):
        x, y = _GAP + k % across * cell_w, _GAP + k // across * cell_h
        if captions:
            pen.text((x, y), captions[k], fill=255)
        large: NDArray[Any] = np.kron(tile, np.ones((times, times), np.uint8))  # [H, W] → [H·times, W·times]
        picture.paste(Image.fromarray(large), (x, y + head))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
