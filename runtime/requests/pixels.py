"""Images that callers pass in, codes or channels: checked once, and given the dtype that the graphs take."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.manifest import Manifest

__all__ = ["check_images", "known_images"]


def check_images(manifest: Manifest, images: ArrayLike, name: str | None = None) -> NDArray[Any]:
    """Whole images as a C-contiguous array: codes int64 [n, H, W], or channels float32 [n, H, W, C] in [-1, 1].

    An image without the first axis counts as one. `name` is what messages call them. Raises `RequestError` for a wrong
    shape, dtype or range.
    """
    name = name or ("codes" if manifest.pixel.kind == "codes" else "images")
    array = _array(manifest, images, name)
    array = array[None] if array.shape == _one(manifest) else array
    if array.ndim != len(_one(manifest)) + 1 or array.shape[1:] != _one(manifest) or not len(array):
        raise RequestError(_shape_message(manifest, array, name, _one(manifest)))
    _in_range(manifest, array, np.ones(array.shape[:3], bool), name)
    return np.ascontiguousarray(array, _dtype(manifest))


def known_images(
    manifest: Manifest, n: int, known: ArrayLike | None, mask: ArrayLike | None
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """`known` and `known_mask` of a call as pixels [n, H, W] or [n, H, W, C], zero where not known, and bool [n, H, W].

    Where the mask is False, `known` may hold anything. Raises `RequestError`.
    """
    one = _one(manifest)
    if known is None and mask is None:
        return np.zeros((n, *one), _dtype(manifest)), np.zeros((n, *manifest.shape), bool)
    if known is None or mask is None:
        given, lacking = ("known_mask", "known") if known is None else ("known", "known_mask")
        raise RequestError(f"{given} comes without {lacking}; give both, or neither.")
    pixels, use = _array(manifest, known, "known"), np.asarray(mask)
    if use.dtype != np.bool_:
        raise RequestError(f"known_mask has dtype {use.dtype}, expected bool; give True where a pixel is known.")
    use = use.view(np.uint8) != 0  # a bool from a file or a buffer may be any byte; NumPy computes with 0 and 1 alone
    for name, array, shape in (("known", pixels, one), ("known_mask", use, manifest.shape)):
        if array.shape not in (shape, (n, *shape)):
            raise RequestError(_shape_message(manifest, array, name, shape, n))
    pixels, use = np.broadcast_to(pixels, (n, *one)), np.broadcast_to(use, (n, *manifest.shape))
    _in_range(manifest, pixels, use, "known")
    where = use.reshape(*use.shape, *(1,) * (len(one) - 2))  # [n, H, W] → [n, H, W, 1] for channels
    return np.where(where, pixels, 0).astype(_dtype(manifest)), np.ascontiguousarray(use)


def _one(manifest: Manifest) -> tuple[int, ...]:
    """Shape of one image."""
    return manifest.shape if manifest.pixel.channels is None else (*manifest.shape, manifest.pixel.channels)


def _dtype(manifest: Manifest) -> type:
    return np.int64 if manifest.pixel.kind == "codes" else np.float32


def _array(manifest: Manifest, value: ArrayLike, name: str) -> NDArray[Any]:
    codes = manifest.pixel.kind == "codes"
    what = "integer codes [n, H, W]" if codes else "numbers in [-1, 1], [n, H, W, C]"
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise RequestError(f"{name} is not a regular array ({error}); give {what}.") from error
    if codes and array.dtype.kind not in "iu":
        raise RequestError(f"{name} has dtype {array.dtype}, expected integers; convert it to int64.")
    if not codes and array.dtype.kind != "f":
        advice = "from_uint8 turns grey levels into them"
        raise RequestError(f"{name} has dtype {array.dtype}, expected floating-point numbers in [-1, 1]; {advice}.")
    return array


def _in_range(manifest: Manifest, pixels: NDArray[Any], where: NDArray[np.bool_], name: str) -> None:
    """Pixels [n, H, W] or [n, H, W, C] are valid where `where` [n, H, W] says."""
    if manifest.pixel.kind == "codes":
        bad = where & ((pixels < 0) | (pixels >= manifest.levels))
        expected = f"codes from 0 to {manifest.levels - 1}; these codes are of another model or of a larger code book"
    else:
        bad = where[..., None] & ~((pixels >= -1) & (pixels <= 1))  # NaN is bad, too
        expected = "numbers in [-1, 1]; rescale grey levels v to (v - 127.5) / 127.5"
    if bad.any():
        place = tuple(int(index) for index in np.argwhere(bad)[0])
        value = str(pixels[place]) if manifest.pixel.kind == "codes" else f"{pixels[place]:.6g}"
        raise RequestError(f"{name}[{', '.join(map(str, place))}] is {value}, expected {expected}.")


def _shape_message(
    manifest: Manifest, array: NDArray[Any], name: str, one: tuple[int, ...], n: int | None = None
) -> str:
    sizes = ", ".join(map(str, one))
    return (
        f"{name} has shape {list(array.shape)}, expected [{sizes}] or [{'n' if n is None else n}, {sizes}]; "
        f"this model was trained for {manifest.height}×{manifest.width} positions and takes no other canvas."
    )
