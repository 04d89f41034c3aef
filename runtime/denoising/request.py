"""What a call of a denoiser draws: its arguments, checked once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.denoiser import DenoiserManifest
from pixelsnail_infer.noise import image_keys
from pixelsnail_infer.runtime.denoising.inputs import Conditions, channels_first, check_conditions, chosen_table
from pixelsnail_infer.runtime.denoising.schedule import Schedule, Table
from pixelsnail_infer.runtime.denoising.spacing import Steps

__all__ = ["DenoisingRequest", "make_request"]


@dataclass(frozen=True, slots=True)
class DenoisingRequest:
    """Images to draw: their noise keys, uint64 [n, 2], their conditions, the steps, and the numbers of each step."""

    keys: NDArray[np.uint64]
    conditions: Conditions
    schedule: Schedule
    table: Table

    def __getitem__(self, images: slice) -> DenoisingRequest:
        """Some of the images; arrays are views."""
        return replace(self, keys=self.keys[images], conditions=self.conditions[images])

    def enlarging(self, pictures: NDArray[np.float32]) -> DenoisingRequest:
        """The same, given the small pictures float32 [n, h, w, C], which are cut to [-1, 1]."""
        small = channels_first(pictures.clip(-1.0, 1.0))
        return replace(self, conditions=replace(self.conditions, low_res=small))


def make_request(
    manifest: DenoiserManifest,
    n: int,
    *,
    seed: int | Sequence[int] | NDArray[np.uint64] = 0,
    steps: Steps | None = None,
    eta: float | None = None,
    sampler: str | None = None,
    clip: bool = True,
    conditions: Mapping[str, Any],
    fed: Collection[str] = (),
) -> DenoisingRequest:
    """Check every argument of `Denoiser.sample`; raises `RequestError` naming the first that is wrong. The conditions
    `fed` come from elsewhere later, and are neither expected nor allowed."""
    schedule = Schedule.of(manifest.diffusion, steps)
    table = chosen_table(schedule, steps, sampler, eta, clip)
    return DenoisingRequest(image_keys(seed, n), check_conditions(manifest, conditions, n, fed), schedule, table)
