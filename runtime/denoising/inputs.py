"""What callers give a denoiser: checked once, and given the dtype and shape that the graphs take."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixelsnail_infer.codec import ImageSpec
from pixelsnail_infer.denoiser import LABEL, LOW_RES, DenoiserManifest
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.codecs.inputs import check_image
from pixelsnail_infer.runtime.denoising.schedule import Schedule, Table
from pixelsnail_infer.runtime.denoising.spacing import STRIDE, Steps
from pixelsnail_infer.runtime.requests.conditions import resolve_conditions

__all__ = [
    "SAMPLERS", "Conditions", "channels_first", "channels_last", "check_conditions", "check_noisy", "check_steps",
    "chosen_table",
]  # fmt: skip

SAMPLERS = ("ddpm", "ddim")


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of n images: labels int64 [n], and small pictures float32 [n, C, h, w], where the model takes
    them."""

    labels: NDArray[np.int64] | None
    low_res: NDArray[np.float32] | None

    def __getitem__(self, images: slice) -> Conditions:
        """Those of some of the images; arrays are views."""
        return Conditions(None if self.labels is None else self.labels[images],
                          None if self.low_res is None else self.low_res[images])  # fmt: skip


def check_conditions(
    manifest: DenoiserManifest, given: Mapping[str, Any], n: int, fed: Collection[str] = ()
) -> Conditions:
    """The conditions of n images. `low_res` is float [n, h, w, C] in [-1, 1], or [h, w, C] for all; where it is `fed`
    from elsewhere it must not be given. Raises `RequestError`."""
    small = next((spec for spec in manifest.conditions if spec.name == LOW_RES and LOW_RES not in fed), None)
    own = () if small is None else (LOW_RES,)
    found = resolve_conditions(manifest, {name: held for name, held in given.items() if name not in own}, n,
                               (*own, *fed))  # fmt: skip
    if small is None:
        return Conditions(found.get(LABEL), None)
    if given.get(LOW_RES) is None:
        raise RequestError(f"The condition {LOW_RES!r} is missing; give the small pictures, float [n, "
                           f"{small.shape[1]}, {small.shape[2]}, {small.shape[0]}] in [-1, 1].")  # fmt: skip
    spec = ImageSpec(manifest.image.channels, (small.shape[1], small.shape[2]))
    pictures = _named(spec, given[LOW_RES])
    if len(pictures) not in (1, n):
        raise RequestError(f"{LOW_RES} holds {len(pictures)} pictures for {n} images; give one, or one for each.")
    each = np.broadcast_to(channels_first(pictures), (n, *small.shape))
    return Conditions(found.get(LABEL), each)


def check_noisy(value: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[np.float32]:
    """Images with noise in them, which may lie anywhere, as float32 [n, H, W, C]. Raises `RequestError`."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise RequestError(f"{name} is not a regular array ({error}); give numbers [n, H, W, C].") from error
    if array.dtype.kind != "f" or array.shape[1:] != shape or array.ndim != len(shape) + 1 or not len(array):
        raise RequestError(f"{name} is {array.dtype} {list(array.shape)}, expected floating-point numbers "
                           f"[n, {', '.join(map(str, shape))}].")  # fmt: skip
    if not np.isfinite(array).all():
        raise RequestError(f"{name} holds a number that is not finite; give finite numbers.")
    return np.ascontiguousarray(array, np.float32)


def check_steps(step: ArrayLike, n: int, schedule: Schedule) -> NDArray[np.int64]:
    """The steps of n images, one for all or one for each, as int64 [n]. Raises `RequestError`."""
    steps = np.asarray(step)
    if steps.dtype.kind not in "iu" or steps.shape not in ((), (n,)):
        raise RequestError(f"step is {shown(step)}, expected an integer, or one for each of {n} images.")
    if not ((steps >= 0) & (steps < len(schedule))).all():
        raise RequestError(f"step holds {steps.min() if steps.min() < 0 else steps.max()}, expected steps from 0 to "
                           f"{len(schedule) - 1} of this schedule.")  # fmt: skip
    return np.array(np.broadcast_to(steps, (n,)), np.int64)


def chosen_table(schedule: Schedule, steps: Steps | None, sampler: str | None, eta: float | None, clip: bool) -> Table:
    """The table of the sampler: the one named, else DDIM where `eta` is given or the steps are DDIM's, else DDPM.
    Raises `RequestError`."""
    if sampler is not None and sampler not in SAMPLERS:
        raise RequestError(f"sampler is {shown(sampler)}, expected {' or '.join(map(repr, SAMPLERS))}.")
    if not isinstance(clip, (bool, np.bool_)):
        raise RequestError(f"clip is {shown(clip)}, expected True or False.")
    strided = isinstance(steps, str) and steps.startswith(STRIDE)
    name = sampler or ("ddim" if eta is not None or strided else "ddpm")
    if name == "ddim":
        return schedule.ddim(0.0 if eta is None else eta, bool(clip))
    if eta is not None:
        raise RequestError("eta is for the sampler 'ddim'; leave it out for 'ddpm'.")
    return schedule.ddpm(bool(clip))


def channels_first(images: NDArray[Any]) -> NDArray[Any]:
    """[n, H, W, C] to [n, C, H, W], a view."""
    return images.transpose(0, 3, 1, 2)


def channels_last(images: NDArray[Any]) -> NDArray[Any]:
    """[n, C, H, W] to [n, H, W, C], an array of its own."""
    return np.array(images.transpose(0, 2, 3, 1), order="C")  # a copy of one channel, too


def _named(spec: ImageSpec, pictures: ArrayLike) -> NDArray[np.float32]:
    try:
        return check_image(spec, pictures)
    except RequestError as error:
        raise RequestError(str(error).replace("images", LOW_RES, 1)) from error
