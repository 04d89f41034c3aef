"""Arguments of a call: checked once, and broadcast to one value per image, before anything runs."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixelsnail_infer.distributions import distribution_of
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.messages import shown
from pixelsnail_infer.noise import image_keys
from pixelsnail_infer.runtime.requests.conditions import resolve_conditions
from pixelsnail_infer.runtime.requests.memory import check_images_fit, request_bytes
from pixelsnail_infer.runtime.requests.pixels import known_images

DEFAULT_MAX_BATCH = 16
_MOST = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Request:
    """A checked request for n images; axis 0 of every array counts images.

    `given` is [n, H, W], or [n, H, W, C] for channels; `use_given` is [n, H, W]. `top_k` holds the number of parameters
    of a pixel (L for codes) and `top_p` 1 where the filter is off.
    """

    n: int
    keys: NDArray[np.uint64]
    temperature: NDArray[np.float32]
    top_k: NDArray[np.int64]
    top_p: NDArray[np.float32]
    given: NDArray[Any]
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

    def filtered(self, off: int) -> bool:
        """Whether a filter is on for any image; `off` is the number of parameters of a pixel."""
        return bool((self.top_k < off).any() or (self.top_p < 1.0).any())

    def leading_rows(self) -> int:
        """How many leading rows are wholly known in every image."""
        rows: NDArray[np.bool_] = np.asarray(self.use_given.all(axis=(0, 2)))
        return int(len(rows) if rows.all() else np.argmin(rows))


def make_request(
    manifest: Manifest,
    n: int,
    *,
    seed: int | Sequence[int] | NDArray[np.uint64] = 0,
    temperature: ArrayLike = 1.0,
    top_k: ArrayLike | None = None,
    top_p: ArrayLike | None = None,
    known: ArrayLike | None = None,
    known_mask: ArrayLike | None = None,
    conditions: Mapping[str, Any],
    fed: Collection[str] = (),
) -> Request:
    """Check every argument of `Sampler.sample`; raises `RequestError` naming the first that is wrong. The conditions
    `fed` come from elsewhere later, and are neither expected nor allowed."""
    n = count(n, "n")
    check_images_fit(n, request_bytes(manifest))
    heat = _per_image(temperature, n, "temperature", "fiu", "a finite number of at least 0")
    _within(heat, (heat >= 0) & (heat <= np.finfo(np.float32).max), "temperature", "finite numbers of at least 0")
    distribution = distribution_of(manifest)
    if not distribution.filters and (top_k is not None or top_p is not None):
        name, kind = "top_p" if top_k is None else "top_k", manifest.pixel.kind
        raise RequestError(f"{name} is for models of codes, but this one's pixels are {kind}; leave it out.")
    levels = distribution.parameters
    k = _per_image(levels if top_k is None else top_k, n, "top_k", "iu", f"an integer from 1 to {levels}")
    _within(k, (k >= 1) & (k <= levels), "top_k", f"integers from 1 to {levels}")
    p = _per_image(1.0 if top_p is None else top_p, n, "top_p", "fiu", "a number above 0 and at most 1")
    _within(p, (p > 0) & (p <= 1), "top_p", "numbers above 0 and at most 1")
    given, use_given = known_images(manifest, n, known, known_mask)
    return Request(
        n=n,
        keys=image_keys(seed, n),
        temperature=heat.astype(np.float32),
        top_k=k.astype(np.int64),
        top_p=np.maximum(p.astype(np.float32), np.finfo(np.float32).tiny),
        given=given,
        use_given=use_given,
        conditions=resolve_conditions(manifest, conditions, n, fed),
    )


def count(value: object, name: str) -> int:
    """A positive integer argument."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if not 1 <= number <= _MOST or isinstance(value, bool):
        limit = "at least 1" if number < 1 else f"at most {_MOST}"
        raise RequestError(f"{name} is {shown(value)}, expected an integer of {limit}.")
    return number


def split(n: int, limit: int) -> Iterator[slice]:
    """Consecutive slices of at most `limit` that cover 0 … n-1."""
    return (slice(first, min(first + limit, n)) for first in range(0, n, limit))


def _per_image(value: ArrayLike, n: int, name: str, kinds: str, expected: str) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in kinds:
        raise RequestError(f"{name} is {shown(value)}, expected {expected}, or one for each image.")
    if array.shape not in ((), (n,)):
        raise RequestError(f"{name} has shape {list(array.shape)}, expected one value, or one for each of {n} images.")
    return np.array(np.broadcast_to(array, (n,)))


def _within(array: NDArray[Any], fits: NDArray[np.bool_], name: str, expected: str) -> None:
    if not fits.all():
        raise RequestError(f"{name} holds {array[~fits][0]}, expected {expected}.")
