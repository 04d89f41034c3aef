"""Pictures: a labelled grid of images, and images read from files. Codes are shown as grey levels, 0 black."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.distributions import from_uint8, to_uint8
from pixelsnail_infer.errors import BackendError, RequestError

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
    """Raise `BackendError` now if pictures cannot be written or read."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise BackendError("Pictures need Pillow: install it (pip install pillow), or use a .npy file.") from error


def png_grid(
    images: NDArray[Any],
    levels: int | None,
    *,
    captions: Sequence[str] | None = None,
    columns: int | None = None,
    scale: int | None = None,
) -> bytes:
    """PNG bytes of a grid of n tiles, each enlarged `scale` times, with an optional caption: from codes [n, H, W] below
    `levels`, or without `levels` from images float [n, H, W, C] in [-1, 1] with C 1 (grey) or 3 (RGB)."""
    require_pillow()
    from PIL import Image, ImageDraw

    tiles = grey(images, levels) if levels is not None else to_uint8(images)
    tiles = tiles[..., 0] if tiles.shape[3:] == (1,) else tiles
    n, height, width = tiles.shape[:3]
    across = columns or grid_columns(n)
    times = scale or max(1, round(_TILE / max(height, width)))
    head = _CAPTION if captions else 0
    cell_w, cell_h = width * times + _GAP, height * times + head + _GAP
    size = across * cell_w + _GAP, math.ceil(n / across) * cell_h + _GAP
    picture = Image.new("RGB" if tiles.ndim == 4 else "L", size, 96 if tiles.ndim == 3 else (96, 96, 96))
    pen = ImageDraw.Draw(picture)
    for k, tile in enumerate(tiles):
        x, y = _GAP + k % across * cell_w, _GAP + k // across * cell_h
        if captions:
            pen.text((x, y), captions[k], fill=255 if tiles.ndim == 3 else (255, 255, 255))
        large: NDArray[Any] = tile.repeat(times, 0).repeat(times, 1)  # [H, W, …] → [H·times, W·times, …]
        picture.paste(Image.fromarray(large), (x, y + head))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def as_pixels(images: NDArray[np.float32], values: str) -> NDArray[np.float32]:
    """Images float32 [n, H, W, C] as numbers in [-1, 1] to look at. Those of `values` "log-mel" are stretched so that
    the least is black and the greatest white, and turned over: low frequencies, which come first, go to the bottom."""
    if values == "pixels":
        return images
    low, high = float(images.min()), float(images.max())
    scaled = (images - low) * np.float32(2 / max(high - low, 1e-12)) - 1
    result: NDArray[np.float32] = np.ascontiguousarray(scaled[:, ::-1], np.float32)
    return result


def read_picture(path: str | Path, channels: int, fit: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """A picture file as an image float32 [H, W, C] in [-1, 1]; `channels` 1 reads it as grey, 3 as RGB. With `fit` (H,
    W) the largest middle part of that shape is resized to it.

    Raises `RequestError` when it cannot be read, and `BackendError` without Pillow.
    """
    require_pillow()
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture).convert("L" if channels == 1 else "RGB")
            sized = upright if fit is None else ImageOps.fit(upright, fit[::-1], Image.Resampling.LANCZOS)
            levels = np.asarray(sized, np.uint8)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise RequestError(f"{path} cannot be read as a picture ({str(error).splitlines()[0]}).") from error
    return from_uint8(levels.reshape(*levels.shape[:2], channels))
