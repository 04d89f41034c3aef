"""What callers give decoders and encoders: checked once, and given the dtype and shape that the graphs take."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixelsnail_infer.codec import CodecManifest, CodesSpec, ImageSpec
from pixelsnail_infer.errors import RequestError

__all__ = ["check_codes", "check_image"]


def check_codes(manifest: CodecManifest, levels: tuple[ArrayLike, ...]) -> list[NDArray[np.int64]]:
    """Every level's codes as C-contiguous int64 [n, h, w], with one n; codes [h, w] count as one image's.

    Raises `RequestError` for a wrong number of levels, shape, dtype or range.
    """
    names = ", ".join(spec.name for spec in manifest.codes)
    if len(levels) != len(manifest.codes):
        what = f"decode got {len(levels)} arrays of codes, expected {len(manifest.codes)}"
        raise RequestError(f"{what}: {names}, in this order.")
    arrays = [_codes(spec, codes) for spec, codes in zip(manifest.codes, levels, strict=True)]
    if len({len(array) for array in arrays}) > 1:
        found = ", ".join(str(len(array)) for array in arrays)
        raise RequestError(f"The levels {names} hold codes of {found} images; give as many of each.")
    return arrays


def _codes(spec: CodesSpec, codes: ArrayLike) -> NDArray[np.int64]:
    array = _array(codes, spec.name, "integer codes [n, h, w]")
    if array.dtype.kind not in "iu":
        raise RequestError(f"{spec.name} has dtype {array.dtype}, expected integers; convert it to int64.")
    array = _batched(array, spec.shape, spec.name)
    if (bad := (array < 0) | (array >= spec.levels)).any():
        place = tuple(int(index) for index in np.argwhere(bad)[0])
        where = f"{spec.name}[{', '.join(map(str, place))}]"
        advice = "these codes are not finished (-1), of another model or of a larger code book"
        raise RequestError(f"{where} is {array[place]}, expected codes from 0 to {spec.levels - 1}; {advice}.")
    return np.ascontiguousarray(array, np.int64)


def check_image(spec: ImageSpec, images: ArrayLike) -> NDArray[np.float32]:
    """Images as C-contiguous float32 [n, H, W, C]; one [H, W, C] counts as one image.

    Pixels must lie in [-1, 1], log-mel values be finite. Raises `RequestError` for a wrong shape, dtype or range.
    """
    array = _array(images, "images", "numbers [n, H, W, C]")
    if array.dtype.kind != "f":
        advice = "; from_uint8 turns grey levels into them" if spec.values == "pixels" else ""
        raise RequestError(f"images has dtype {array.dtype}, expected floating-point numbers{advice}.")
    array = _batched(array, (*spec.shape, spec.channels), "images")
    fits = (array >= -1) & (array <= 1) if spec.values == "pixels" else np.isfinite(array)  # NaN fits neither
    if not fits.all():
        place = tuple(int(index) for index in np.argwhere(~fits)[0])
        what = "numbers in [-1, 1]; rescale grey levels v to (v - 127.5) / 127.5" if spec.values == "pixels" else \
            "finite numbers"
        raise RequestError(f"images[{', '.join(map(str, place))}] is {array[place]:.6g}, expected {what}.")
    return np.ascontiguousarray(array, np.float32)


def _array(value: ArrayLike, name: str, what: str) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except ValueError as error:
        raise RequestError(f"{name} is not a regular array ({error}); give {what}.") from error


def _batched(array: NDArray[Any], one: tuple[int, ...], name: str) -> NDArray[Any]:
    array = array[None] if array.shape == one else array
    if array.shape[1:] != one or array.ndim != len(one) + 1 or not len(array):
        sizes = ", ".join(map(str, one))
        what = f"{name} has shape {list(array.shape)}, expected [{sizes}] or [n, {sizes}]"
        raise RequestError(f"{what}; this file was exported for that size (export-model --shape makes another).")
    return array
