"""Denoisers of exported models: images from noise, step by step. NumPy and one engine; never torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixelsnail_infer.denoiser import DenoiserManifest
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.noise import SCORING, image_keys, normal_image
from pixelsnail_infer.runtime.backends import Backend, Graph
from pixelsnail_infer.runtime.codecs.inputs import check_image
from pixelsnail_infer.runtime.denoising.batch import Batch, batch_bytes, drawing_noise
from pixelsnail_infer.runtime.denoising.bound import prior_bits, step_bits
from pixelsnail_infer.runtime.denoising.inputs import (
    Conditions,
    channels_first,
    channels_last,
    check_conditions,
    check_noisy,
    check_steps,
    chosen_table,
)
from pixelsnail_infer.runtime.denoising.projections import Projections
from pixelsnail_infer.runtime.denoising.request import DenoisingRequest, make_request
from pixelsnail_infer.runtime.denoising.schedule import COEFFICIENTS, Schedule, Table
from pixelsnail_infer.runtime.denoising.spacing import Steps
from pixelsnail_infer.runtime.requests.guard import CallGuard
from pixelsnail_infer.runtime.requests.memory import check_fits, check_images_fit, memory_told
from pixelsnail_infer.runtime.requests.request import count, split

__all__ = ["DENOISED_AT_ONCE", "Denoised", "Denoiser", "OnStep"]

DENOISED_AT_ONCE = 8
"""Images in one batch by default: on a CPU larger ones gain nothing."""
Progress = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class Denoised:
    """What a reverse step made of the `images` of a call: `x` is the image a step earlier and `x0` the one without
    noise as predicted, both float32 [b, H, W, C] and the caller's. `step` counts down to 0, of `time` in the whole
    diffusion."""

    images: slice
    step: int
    time: int
    x: NDArray[np.float32]
    x0: NDArray[np.float32]


OnStep = Callable[[Denoised], object]


class Denoiser:
    """A loaded denoiser, made by `load`.

    Any thread may call; calls on one object wait for each other. Returned arrays belong to the caller. Every call
    raises `EngineError` when the engine fails or memory runs out; the next one works again.
    """

    def __init__(self, manifest: DenoiserManifest, backend: Backend, step: Graph, times: Graph) -> None:
        self._manifest, self._backend = manifest, backend
        self._step: Graph | None = step
        self._times = times
        self._calls = CallGuard("denoiser", "call it when the call has returned")
        self._batch: Batch | None = None

    @property
    def manifest(self) -> DenoiserManifest:
        """The frozen description of the files."""
        return self._manifest

    @property
    def result_bytes(self) -> int:
        """Bytes of one image."""
        spec = self._manifest.image
        return 4 * spec.channels * int(np.prod(spec.shape))

    def schedule(self, steps: Steps | None = None) -> Schedule:
        """The steps that a call with these `steps` takes. Raises `RequestError`."""
        return Schedule.of(self._manifest.diffusion, steps)

    @memory_told
    def sample(
        self,
        n: int,
        *,
        seed: int | Sequence[int] = 0,
        steps: Steps | None = None,
        eta: float | None = None,
        sampler: str | None = None,
        clip: bool = True,
        on_step: OnStep | None = None,
        progress: Progress | None = None,
        max_batch: int | None = None,
        **conditions: Any,
    ) -> NDArray[np.float32]:
        """Draw n images, float32 [n, H, W, C], about in [-1, 1].

        `steps` chooses among the steps of the diffusion: 250 or "250" spread evenly, "ddim50" of one stride, or as many
        for each of several equal sections, "10,10,20"; None takes all. The `sampler` is "ddim" where it is named, `eta`
        is given, or `steps` begins with ddim, else "ddpm"; `eta` (0 to 1, default 0) is how much noise DDIM adds. With
        `clip` what each step predicts is cut to [-1, 1].

        An image depends on its seed, its conditions and these settings only. A class is given as `label=`, one or one
        for each image, and the small picture of a super-resolution model as `low_res=`, float [n, h, w, C] or [h, w, C]
        in [-1, 1]. At most `max_batch` images (default 8) are drawn at once. `on_step` hears of every step, and
        `progress(done, total)` counts images times steps; both run in the calling thread and must not call this object.

        Raises `RequestError` before anything runs when an argument is wrong.
        """
        manifest, n = self._manifest, count(n, "n")
        check_images_fit(n, self.result_bytes)
        request = make_request(manifest, n, seed=seed, steps=steps, eta=eta, sampler=sampler, clip=clip,
                               conditions=conditions)  # fmt: skip
        tally, limit = _Tally(progress, n * len(request.schedule)), _limit(max_batch)
        return self.draw(request, limit, on_step, tally.add)

    def draw(
        self, request: DenoisingRequest, limit: int, on_step: OnStep | None, on_images: Callable[[int], object]
    ) -> NDArray[np.float32]:
        """What `sample` draws, at most `limit` images at once; `on_images` hears how many took a step."""
        spec, schedule = self._manifest.image, request.schedule
        result = np.empty((len(request.keys), *spec.shape, spec.channels), np.float32)
        with self._calls:
            for some in split(len(result), limit):
                asked = request[some]
                x = drawing_noise(asked.keys, self._manifest.diffusion.steps, (spec.channels, *spec.shape))
                assert x is not None
                for step, found in self._steps(x, asked):
                    x = found["x_prev"]
                    if on_step is not None:
                        both = channels_last(x), channels_last(found["x0"])
                        on_step(Denoised(some, step, schedule.taken[step], *both))
                    on_images(len(x))
                result[some] = channels_last(x)
        return result

    def check_batch(self, size: int) -> None:
        """Raise `RequestError` now if the buffers of so many images cannot fit into memory."""
        if self._batch is None or self._batch.size != size:
            check_fits(batch_bytes(self._manifest, size), f"A batch of {size} images that are denoised",
                       "give a smaller max_batch")  # fmt: skip

    @memory_told
    def denoise(
        self,
        x: ArrayLike,
        step: ArrayLike,
        *,
        noise: ArrayLike | None = None,
        steps: Steps | None = None,
        eta: float | None = None,
        sampler: str | None = None,
        clip: bool = True,
        **conditions: Any,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """One reverse step of images `x`, float [n, H, W, C], each at a step of its own, so that images may join and
        leave a batch whenever they like: the images a step earlier, and those without noise as predicted.

        `step` counts the steps of the schedule that `steps` chooses, one for all or one for each image; drawing begins
        with the last and ends with 0. `noise` is float [n, H, W, C], standard normal numbers (None: zeros). The rest is
        as for `sample`. Raises `RequestError`.
        """
        spec, schedule = self._manifest.image, self.schedule(steps)
        table = chosen_table(schedule, steps, sampler, eta, clip)
        images = check_noisy(x, (*spec.shape, spec.channels), "x")
        at = check_steps(step, len(images), schedule)
        added = None if noise is None else check_noisy(noise, images.shape[1:], "noise")
        if added is not None and len(added) != len(images):
            raise RequestError(f"noise is for {len(added)} images, but x holds {len(images)}; give as much of both.")
        asked = check_conditions(self._manifest, conditions, len(images))
        with self._calls:
            batch, told = self._bound(len(images)), self._told(schedule)
            found = batch.run(channels_first(images), None if added is None else channels_first(added), table[at], at,
                              asked, told)  # fmt: skip
            return channels_last(found["x_prev"]), channels_last(found["x0"])

    @memory_told
    def bits_per_dim(
        self,
        images: ArrayLike,
        *,
        seed: int | Sequence[int] = 0,
        steps: Steps | None = None,
        clip: bool = True,
        progress: Progress | None = None,
        max_batch: int | None = None,
        **conditions: Any,
    ) -> NDArray[np.float64]:
        """An upper bound of the bits per dimension of images float [n, H, W, C] of 256 levels in [-1, 1], float64 [n].

        It is the variational bound that improved-diffusion's `image_nll` computes: one run of the network for every
        step, on the image with that step's share of noise, which depends on the image's `seed` and the step only. The
        rest is as for `sample`. Raises `RequestError`.
        """
        manifest = self._manifest
        given = channels_first(check_image(manifest.image, images)).astype(np.float64)
        schedule = self.schedule(steps)
        table = chosen_table(schedule, steps, "ddpm", None, clip)
        keys, asked = image_keys(seed, len(given)), check_conditions(manifest, conditions, len(given))
        total = prior_bits(schedule, given)
        tally, limit = _Tally(progress, len(given) * len(schedule)), _limit(max_batch)
        with self._calls:
            for some in split(len(given), limit):
                told = self._told(schedule)
                for step in reversed(range(len(schedule))):
                    total[some] += self._bits(given[some], step, schedule, table, keys[some], asked[some],
                                              told)  # fmt: skip
                    tally.add(some.stop - some.start)
        return total

    def close(self) -> None:
        """Release graphs and buffers, after waiting for a call in progress; may be called again. Later calls raise."""
        if self._calls.closed:
            return
        with self._calls:
            self._calls.closed = True
            self._batch = self._step = None

    def __enter__(self) -> Denoiser:
        self._calls.check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _steps(
        self, x: NDArray[np.float32], asked: DenoisingRequest
    ) -> Iterator[tuple[int, Mapping[str, NDArray[np.float32]]]]:
        """All steps of one batch [B, C, H, W], the last first; what the graph gave is written over by the next."""
        schedule, table = asked.schedule, asked.table
        batch, told = self._bound(len(x)), self._told(schedule)
        for step in reversed(range(len(schedule))):
            noise = drawing_noise(asked.keys, schedule.taken[step], x.shape[1:], table[step])
            at = np.full(len(x), step)
            found = batch.run(x, noise, table[at], at, asked.conditions, told)
            yield step, found
            x = found["x_prev"]

    def _bits(
        self, images: Table, step: int, schedule: Schedule, table: Table, keys: NDArray[np.uint64], asked: Conditions,
        told: Projections,
    ) -> Table:  # fmt: skip
        """What one step costs each of a batch [B, C, H, W], in bits per dimension."""
        noise = np.stack([normal_image(key, SCORING, schedule.taken[step], images.shape[1:]) for key in keys])
        bar = schedule.bars[step]
        x = (np.sqrt(bar) * images + np.sqrt(1.0 - bar) * noise).astype(np.float32)
        at = np.full(len(x), step)
        found = self._bound(len(x)).run(x, None, table[at], at, asked, told)
        log_variance = found.get("log_variance", np.full(images.shape, table[step, COEFFICIENTS.index("n")]))
        mean = found["x_prev"].astype(np.float64)  # without noise
        return step_bits(schedule, step, images, x.astype(np.float64), mean, log_variance.astype(np.float64))

    def _told(self, schedule: Schedule) -> Projections:
        return Projections(self._manifest, self._backend, self._times, schedule)

    def _bound(self, size: int) -> Batch:
        if self._step is None:
            raise RequestError("This denoiser is closed; load the model again.")
        if self._batch is None or self._batch.size != size:
            self._batch = None  # release the old buffers before the new ones are allocated
            self.check_batch(size)
            self._batch = Batch(self._manifest, self._backend, self._step, size)
        return self._batch


class _Tally:
    """Counts images times steps for a caller's `progress`."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def add(self, images: int) -> None:
        """So many images took a step."""
        self._done += images
        if self._progress is not None:
            self._progress(self._done, self._total)


def _limit(max_batch: int | None) -> int:
    return DENOISED_AT_ONCE if max_batch is None else count(max_batch, "max_batch")
