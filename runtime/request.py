"""Arguments of a call: checked once, and broadcast to one value per image, before anything runs."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.noise import image_keys
from pixelsnail_infer.runtime.conditions import resolve_conditions

DEFAULT_MAX_BATCH = 16


@dataclass(frozen=True, slots=True)
class Request:
    """A checked request for n images; axis 0 of every array counts images.

    `given` and `use_given` are [n, H, W]; `top_k` holds L and `top_p` 1 where the filter is off.
    """

    n: int
    keys: NDArray[np.uint64]
    temperature: NDArray[np.float32]
    top_k: NDArray[np.int64]
    top_p: NDArray[np.float32]
    given: NDArray[np.int64]
    use_given: NDArray[np.bool_]
    conditions: dict[str, NDArray[Any]]

    def __getitem__(self, images: slice) -> Request:
        """The request for some of the images; arrays are views."""
        conditions = {name: held[images] for name, held in self.conditions.items()}
        return Request(
            n=len(self.keys[images]),
            keys=self.keys[images],
            temperature=self.temperature[images],
            top_k=self.top_k[images],
            top_p=self.top_p[images],
            given=self.given[images],
            use_given=self.use_given[images],
            conditions=conditions,
        )

    def filtered(self, levels: int) -> bool:
        """Whether a filter is on for any image."""
        return bool((self.top_k < levels).any() or (self.top_p < 1.0).any())

    def leading_rows(self) -> int:
        """How many leading rows are wholly known in every image."""
        rows: NDArray[np.bool_] = np.asarray(self.use_given.all(axis=(0, 2)))
        return int(len(rows) if rows.all() else np.argmin(rows))


def make_request(
    manifest: Manifest,
    n: int,
    *,
    seed: int | Sequence[int] = 0,
    temperature: ArrayLike = 1.0,
    top_k: ArrayLike | None = None,
    top_p: ArrayLike | None = None,
    known: ArrayLike | None = None,
    known_mask: ArrayLike | None = None,
    conditions: Mapping[str, Any],
) -> Request:
    """Check every argument of `Sampler.sample`; raises `RequestError` naming the first that is wrong."""
    n = count(n, "n")
    heat = _per_image(temperature, n, "temperature", "fiu", "a finite number of at least 0")
    _within(heat, (heat >= 0) & (heat <= np.finfo(np.float32).max), "temperature", "finite numbers of at least 0")
    levels = manifest.levels
    k = _per_image(levels if top_k is None else top_k, n, "top_k", "iu", f"an integer from 1 to {levels}")
    _within(k, (k >= 1) & (k <= levels), "top_k", f"integers from 1 to {levels}")
    p = _per_image(1.0 if top_p is None else top_p, n, "top_p", "fiu", "a number above 0 and at most 1")
    _within(p, (p > 0) & (p <= 1), "top_p", "numbers above 0 and at most 1")
    given, use_given = _known(manifest, n, known, known_mask)
    return Request(
        n=n,
        keys=image_keys(seed, n),
        temperature=heat.astype(np.float32),
        top_k=k.astype(np.int64),
        top_p=np.maximum(p.astype(np.float32), np.finfo(np.float32).tiny),
        given=given,
        use_given=use_given,
        conditions=resolve_conditions(manifest, conditions, n),
    )


def check_codes(manifest: Manifest, codes: ArrayLike, name: str = "codes") -> NDArray[np.int64]:
    """`codes` as int64 [n, H, W]; [H, W] counts as one image. Raises `RequestError` for shape, dtype or range."""
    array = _integers(codes, name)
    array = array[None] if array.shape == manifest.shape else array
    if array.ndim != 3 or array.shape[1:] != manifest.shape or not len(array):
        raise RequestError(_shape_message(manifest, array, name))
    _in_range(array, np.ones(array.shape, bool), manifest.levels, name)
    return np.ascontiguousarray(array, np.int64)


def count(value: object, name: str) -> int:
    """A positive integer argument."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise RequestError(f"{name} is {value!r}, expected an integer of at least 1.")
    return number


def _known(
    manifest: Manifest, n: int, known: ArrayLike | None, mask: ArrayLike | None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    shape = (n, *manifest.shape)
    if known is None and mask is None:
        return np.zeros(shape, np.int64), np.zeros(shape, bool)
    if known is None or mask is None:
        given, lacking = ("known_mask", "known") if known is None else ("known", "known_mask")
        raise RequestError(f"{given} comes without {lacking}; give both, or neither.")
    codes, use = _integers(known, "known"), np.asarray(mask)
    if use.dtype != np.bool_:
        raise RequestError(f"known_mask has dtype {use.dtype}, expected bool; give True where a code is known.")
    for name, array in (("known", codes), ("known_mask", use)):
        if array.shape not in (manifest.shape, shape):
            raise RequestError(_shape_message(manifest, array, name, n))
    codes, use = np.broadcast_to(codes, shape), np.broadcast_to(use, shape)
    _in_range(codes, use, manifest.levels, "known")
    return np.where(use, codes, 0).astype(np.int64), np.ascontiguousarray(use)


def _integers(value: ArrayLike, name: str) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise RequestError(f"{name} is not a regular array ({error}); give integer codes [n, H, W].") from error
    if array.dtype.kind not in "iu":
        raise RequestError(f"{name} has dtype {array.dtype}, expected integers; convert it to int64.")
    return array


def _in_range(codes: NDArray[Any], where: NDArray[np.bool_], levels: int, name: str) -> None:
    bad = where & ((codes < 0) | (codes >= levels))
    if bad.any():
        image, row, column = (int(index) for index in np.argwhere(bad)[0])
        value = int(codes[image, row, column])
        raise RequestError(
            f"{name}[{image}, {row}, {column}] is {value}, expected codes from 0 to {levels - 1}; "
            "these codes are of another model or of a larger code book."
        )


def _shape_message(manifest: Manifest, array: NDArray[Any], name: str, n: int | None = None) -> str:
    height, width = manifest.shape
    images = "n" if n is None else str(n)
    return (
        f"{name} has shape {list(array.shape)}, expected [{height}, {width}] or [{images}, {height}, {width}]; "
        f"this model was trained for {height}×{width} positions and takes no other canvas."
    )


def _per_image(value: ArrayLike, n: int, name: str, kinds: str, expected: str) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in kinds:
        raise RequestError(f"{name} is {value!r}, expected {expected}, or one for each image.")
    if array.shape not in ((), (n,)):
        raise RequestError(f"{name} has shape {list(array.shape)}, expected one value, or one for each of {n} images.")
    return np.array(np.broadcast_to(array, (n,)))


def _within(array: NDArray[Any], fits: NDArray[np.bool_], name: str, expected: str) -> None:
    if not fits.all():
        raise RequestError(f"{name} holds {array[~fits][0]}, expected {expected}.")
