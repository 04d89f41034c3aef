"""Images as PNG files: a labelled grid of many, or one alone. Codes are shown as grey levels, 0 black."""

from __future__ import annotations

import functools
import io
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.distributions import to_uint8
from pixelsnail_infer.errors import BackendError, RequestError
from pixelsnail_infer.messages import one_line, shown

_TILE = 64  # the side that tiles are enlarged to, about
_GAP = 4
_CAPTION = 14
_WIDEST = 20
_BACKGROUND = 96
MOST_PIXELS = 178_956_970
"""Of a picture that is written: Pillow and programs on top of it refuse, or warn of, larger ones."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the n tiles of a picture lie, each of height × width pixels that are enlarged `scale` times."""

    n: int
    height: int
    width: int
    columns: int
    scale: int
    head: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture."""
        return self._across * self.columns + _GAP, self._down * -(-self.n // self.columns) + _GAP

    def place(self, k: int) -> tuple[int, int]:
        """Left and upper side of tile k, its caption included."""
        return _GAP + k % self.columns * self._across, _GAP + k // self.columns * self._down

    @property
    def _across(self) -> int:
        return self.width * self.scale + _GAP

    @property
    def _down(self) -> int:
        return self.height * self.scale + self.head + _GAP


def make_grid(
    n: int, shape: tuple[int, int], *, captions: bool = False, columns: int | None = None, scale: int | None = None
) -> Grid:
    """The grid of n tiles of `shape` (H, W). Raises `RequestError` for a picture that is too large."""
    height, width = shape
    times = scale or max(1, round(_TILE / max(height, width)))
    grid = Grid(n, height, width, columns or grid_columns(n), times, _CAPTION if captions else 0)
    _check_size(*grid.size, "give fewer images, --columns or --scale, a file for each image ('{index}.png'), or a .npy")
    return grid


def grey(codes: NDArray[np.int64], levels: int) -> NDArray[np.uint8]:
    """Grey levels uint8, of the same shape, of codes 0 … levels - 1; a code that is not drawn (-1) is black."""
    scaled = np.clip(codes, 0, None) * 255.0 / max(levels - 1, 1)
    return np.round(scaled).astype(np.uint8)


def grid_columns(n: int, labels: Sequence[int] | None = None) -> int:
    """Columns of a grid of n tiles: one per label when there are a few, else about as many as rows."""
    if labels and 1 < len(labels) <= _WIDEST:
        return min(n, len(labels))
    return math.isqrt(n - 1) + 1


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
    text: Mapping[str, str] | None = None,
) -> bytes:
    """PNG bytes of a grid of n tiles, each enlarged `scale` times, with an optional caption: from codes [n, H, W] below
    `levels`, or without `levels` from images float [n, H, W, C] in [-1, 1] with C 1 (grey) or 3 (RGB). `text` goes into
    the file's text chunks."""
    require_pillow()
    tiles = _tiles(images, levels)
    grid = make_grid(len(tiles), tiles.shape[1:3], captions=bool(captions), columns=columns, scale=scale)
    width, height = grid.size
    picture = np.full((height, width, *tiles.shape[3:]), _BACKGROUND, np.uint8)
    for k, tile in enumerate(_enlarged(tiles, grid.scale)):
        x, y = grid.place(k)
        if captions:
            _write(picture[y:, x:], captions[k])
        picture[y + grid.head :, x:][: tile.shape[0], : tile.shape[1]] = tile
    return _png(picture, text)


def check_alone(shape: tuple[int, int], scale: int | None) -> None:
    """Raise `RequestError` if an image of `shape` (H, W), enlarged `scale` times, makes too large a picture."""
    _check_size(shape[1] * (scale or 1), shape[0] * (scale or 1), "give a smaller --scale")


def png_alone(
    image: NDArray[Any], levels: int | None, *, scale: int | None = None, text: Mapping[str, str] | None = None
) -> bytes:
    """PNG bytes of one image, codes [H, W] or float [H, W, C], enlarged `scale` times (1 where not given)."""
    require_pillow()
    check_alone((image.shape[0], image.shape[1]), scale)
    return _png(_enlarged(_tiles(image[None], levels), scale or 1)[0], text)


def as_pixels(images: NDArray[np.float32], values: str) -> NDArray[np.float32]:
    """Images float32 [n, H, W, C] as numbers in [-1, 1] to look at. Those of `values` "log-mel" are stretched so that
    the least is black and the greatest white, and turned over: low frequencies, which come first, go to the bottom."""
    if values == "pixels":
        return images
    low, high = float(images.min()), float(images.max())
    scaled = (images - low) * np.float32(2 / max(high - low, 1e-12)) - 1
    result: NDArray[np.float32] = np.ascontiguousarray(scaled[:, ::-1], np.float32)
    return result


def _tiles(images: NDArray[Any], levels: int | None) -> NDArray[np.uint8]:
    """uint8 [n, H, W], or [n, H, W, 3]."""
    tiles = grey(images, levels) if levels is not None else to_uint8(images)
    return tiles[..., 0] if tiles.shape[3:] == (1,) else tiles


def _enlarged(tiles: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    return tiles.repeat(times, 1).repeat(times, 2)  # [n, H, W, …] → [n, H·times, W·times, …]


def _write(place: NDArray[np.uint8], caption: str) -> None:
    """White letters into the upper left corner of `place`, [H, W] or [H, W, 3], as far as they fit."""
    drawn = _letters(caption)[: place.shape[0], : place.shape[1]]
    corner = place[: drawn.shape[0], : drawn.shape[1]]
    np.maximum(corner, drawn.reshape(*drawn.shape, *[1] * (place.ndim - 2)), out=corner)


@functools.lru_cache(maxsize=1024)
def _letters(caption: str) -> NDArray[np.uint8]:
    """A caption, white on the background. Captions are few, and drawing one takes longer than a tile."""
    from PIL import Image, ImageDraw

    _, _, right, bottom = ImageDraw.Draw(Image.new("L", (1, 1))).textbbox((0, 0), caption)
    picture = Image.new("L", (math.ceil(right), math.ceil(bottom)), _BACKGROUND)
    ImageDraw.Draw(picture).text((0, 0), caption, fill=255)
    return np.asarray(picture)


def _png(pixels: NDArray[np.uint8], text: Mapping[str, str] | None) -> bytes:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    for name, value in (text or {}).items():
        chunks.add_text(name, one_line(value))
    buffer = io.BytesIO()
    # After PNG's filters runs are what is left to find: half the time, and about the same size.
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=chunks, compress_type=zlib.Z_RLE)
    return buffer.getvalue()


def _check_size(width: int, height: int, advice: str) -> None:
    if width * height > MOST_PIXELS:
        what = f"The picture would be {shown(width)}×{shown(height)} pixels, expected at most {MOST_PIXELS:,} of them"
        raise RequestError(f"{what}; {advice}.")
