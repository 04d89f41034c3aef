"""The denoisers of a pipeline: one may draw pictures from noise, and each after it enlarges what came before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.denoiser import LOW_RES, DenoiserManifest
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import shown
from pixelsnail_infer.noise import image_keys
from pixelsnail_infer.runtime.denoising.denoiser import Denoised, Denoiser
from pixelsnail_infer.runtime.denoising.request import DenoisingRequest, make_request
from pixelsnail_infer.runtime.pipeline.generation import Work
from pixelsnail_infer.runtime.pipeline.stage_requests import stage_keys
from pixelsnail_infer.runtime.pipeline.wiring import Wiring

__all__ = ["DENOISING", "OnStageStep", "Pictures", "picture_requests", "refuse_idle"]

OnStageStep = Callable[[int, Denoised], object]
DENOISING: Mapping[str, Any] = {"steps": None, "eta": None, "sampler": None, "clip": True}
"""What denoisers are set by, and the defaults."""


def picture_requests(
    denoisers: Sequence[DenoiserManifest], wiring: Wiring, n: int, first: int, *, seed: Any,
    settings: Mapping[str, Any], conditions: Mapping[str, Any],
) -> list[DenoisingRequest]:  # fmt: skip
    """One request for each denoiser, of which the first is stage number `first`, without the pictures that other stages
    give. `settings` are those of `DENOISING`. Raises `RequestError`."""
    keys, each = image_keys(seed, n), {name: _each(value, name, len(denoisers)) for name, value in settings.items()}
    requests = []
    for place, (manifest, fed) in enumerate(zip(denoisers, wiring.enlarging, strict=True)):
        names = [spec.name for spec in manifest.conditions if not (fed and spec.name == LOW_RES)]
        own = {name: conditions[name] for name in names if name in conditions}
        try:
            requests.append(make_request(
                manifest, n, seed=stage_keys(keys, first + place), conditions=own, fed=(LOW_RES,) if fed else (),
                **{name: values[place] for name, values in each.items()}))  # fmt: skip
        except RequestError as error:
            raise error if first + len(denoisers) == 1 else RequestError(f"Stage {first + place}: {error}") from error
    return requests


def refuse_idle(given: Mapping[str, Any], usual: Mapping[str, Any], stages: str) -> None:
    """Raise `RequestError` for a setting that differs from what is usual, and has no stage that it could be for."""
    for name, value in given.items():
        if value is not usual[name] and value != usual[name]:
            raise RequestError(f"{name} is for {stages}, and this pipeline has none; leave it out.")


class Pictures:
    """Draws batch after batch with the denoisers; `images` holds what the last of them drew, NaN before."""

    def __init__(
        self, denoisers: Sequence[Denoiser], requests: Sequence[DenoisingRequest], wiring: Wiring, n: int, first: int,
        limit: int, work: Work, on_step: OnStageStep | None,
    ) -> None:  # fmt: skip
        self._denoisers, self._requests, self._enlarging = denoisers, requests, wiring.enlarging
        self._first, self._limit, self._work, self._on_step = first, limit, work, on_step
        self.images: NDArray[np.float32] | None = None
        if denoisers:
            spec = denoisers[-1].manifest.image
            self.images = np.full((n, *spec.shape, spec.channels), np.nan, np.float32)

    def batch(self, images: slice, drawn: NDArray[np.float32] | None) -> None:
        """Draw `images`; `drawn` are those of the stages before, float32 [b, h, w, C]."""
        stages = zip(self._denoisers, self._requests, self._enlarging, strict=True)
        for place, (denoiser, request, fed) in enumerate(stages):
            asked = request[images]
            if fed:
                assert drawn is not None
                asked = asked.enlarging(drawn)
            told = None if self._on_step is None else partial(self._tell, self._on_step, place, images.start)
            drawn = denoiser.draw(asked, self._limit, told, partial(self._count, step_weight(denoiser.manifest)))
        if self.images is not None and drawn is not None:
            self.images[images] = drawn

    def _count(self, weight: int, images: int) -> None:
        self._work.add(images * weight)

    def _tell(self, on_step: OnStageStep, place: int, start: int, one: Denoised) -> None:
        images = slice(start + one.images.start, start + one.images.stop)
        on_step(self._first + place, replace(one, images=images))


def step_weight(manifest: DenoiserManifest) -> int:
    """What one step of one image counts: its pixels."""
    return int(np.prod(manifest.image.shape))


def _each(value: Any, name: str, count: int) -> list[Any]:
    """One setting for each denoiser."""
    if not isinstance(value, (list, tuple, np.ndarray)) or getattr(value, "ndim", 1) == 0:
        return [value] * count
    if len(value) != count:
        more = "; steps of sections are a text, '10,10,20'" if name == "steps" else ""
        raise RequestError(f"{name} is {shown(value)}, expected one value, or one for each of {count} denoisers{more}.")
    return list(value)
