"""Pictures read from files: their size and kind are looked at before a pixel is decoded."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.distributions import from_uint8
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.plainfile import open_plain
from pixelsnail_infer.runtime.files.images import require_pillow

__all__ = ["WrongSizeError", "read_picture"]

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Pillow knows more, and starts other programs for some."""
MOST_PIXELS = 1 << 27  # of a picture that is made smaller: some seconds, and half a gigabyte


class WrongSizeError(RequestError):
    """A picture has another size than the one needed; what to do about it, the caller adds."""


def read_picture(
    path: str | Path, channels: int, shape: tuple[int, int] | None = None, *, fit: bool = False
) -> NDArray[np.float32]:
    """A picture file as an image float32 [H, W, C] in [-1, 1]; `channels` 1 reads it as grey, 3 as RGB.

    Its size must be `shape` (H, W), where given; with `fit` the largest middle part of that shape is resized to it.
    Raises `RequestError` when it has another size, is animated or transparent in parts, or cannot be read, and
    `BackendError` without Pillow.
    """
    require_pillow()
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures, and of odd fields
            with open_plain(path) as file, Image.open(file, formats=FORMATS) as picture:
                _check_header(path, picture, None if fit else shape)
                levels = _levels(path, picture, channels, shape if fit else None)
        if shape is not None and levels.shape[:2] != shape:
            raise _wrong_size(path, (levels.shape[0], levels.shape[1]), shape)
    except RequestError:
        raise
    except Exception as error:  # on a damaged file a decoder may raise anything
        reason = one_line(error) or type(error).__name__
        raise RequestError(f"{path} cannot be read as a picture ({reason}).") from error
    return from_uint8(levels.reshape(*levels.shape[:2], channels))


def _check_header(path: str | Path, picture: Any, shape: tuple[int, int] | None) -> None:
    """What the header says, which may be turned yet: how a picture is turned may stand behind its pixels."""
    width, height = picture.size
    if shape is not None and (height, width) not in (shape, shape[::-1]):
        raise _wrong_size(path, (height, width), shape)
    if width * height > MOST_PIXELS:
        what = f"{path} is {width}×{height} pixels"
        raise RequestError(f"{what}, expected at most {MOST_PIXELS:,} of them; make it smaller.")
    if getattr(picture, "is_animated", False):
        raise RequestError(f"{path} holds several pictures, expected one; save the one that is meant.")


def _wrong_size(path: str | Path, found: tuple[int, int], needed: tuple[int, int]) -> WrongSizeError:
    sizes = f"{found[1]}×{found[0]} pixels, expected {needed[1]}×{needed[0]} (width×height)"
    return WrongSizeError(f"{path} is {sizes}")


def _levels(path: str | Path, picture: Any, channels: int, fit: tuple[int, int] | None) -> NDArray[np.uint8]:
    """The pixels [H, W] or [H, W, 3], upright."""
    from PIL import Image, ImageOps

    if picture.mode.startswith("I;16"):  # Pillow would clip to 255
        grey = np.round(np.asarray(picture, np.float64) / 257).astype(np.uint8)
        picture = _with_exif(Image.fromarray(grey), picture)
    elif picture.mode in ("I", "F"):
        raise RequestError(f"{path} holds numbers of 32 bits, expected 8 or 16; save it with 8 bits for each channel.")
    elif picture.has_transparency_data and picture.convert("RGBA").getextrema()[3][0] < 255:
        raise RequestError(f"{path} is transparent in parts; put it on a background.")
    upright = ImageOps.exif_transpose(picture).convert("L" if channels == 1 else "RGB")
    sized = upright if fit is None else ImageOps.fit(upright, fit[::-1], Image.Resampling.LANCZOS)
    return np.asarray(sized, np.uint8)


def _with_exif(picture: Any, source: Any) -> Any:
    picture.getexif().update(source.getexif())
    return picture
