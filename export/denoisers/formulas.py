"""One reverse step in NumPy, float64, as the papers write it: what the graphs and the runtime's tables are held to.

It shares nothing with `runtime/denoising/schedule.py`, which turns the same formulas into sums.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.denoiser import DiffusionSpec

__all__ = ["FormulaStep", "cumulative"]

Array = NDArray[np.float64]


def cumulative(spec: DiffusionSpec) -> list[float]:
    """The share of the image's variance that is left after each step, ᾱ."""
    bars, left = list[float](), 1.0
    for t in range(spec.steps):
        if spec.noise_schedule == "linear":
            low, high = 0.1 / spec.steps, 20 / spec.steps
            beta = low + (high - low) * t / (spec.steps - 1)
        else:
            now, then = (math.cos(((t + k) / spec.steps + 0.008) / 1.008 * math.pi / 2) ** 2 for k in (0, 1))
            beta = min(1 - then / now, 0.999)
        left *= 1 - beta
        bars.append(left)
    return bars


class FormulaStep:
    """The step from noise level `bar` to `before`, ᾱ of both; `below` are those of the schedule's first two steps."""

    def __init__(self, spec: DiffusionSpec, bar: float, before: float, below: tuple[float, float]) -> None:
        self.spec, self.bar, self.before = spec, bar, before
        self.alpha = bar / before
        self.beta = 1 - self.alpha
        first, second = below
        # the variance of q(x_before | x, x0), which is 0 at the last step: there it is that of the step above
        self.least = (1 - second / first) * (1 - first) / (1 - second) if before == 1 \
            else self.beta * (1 - before) / (1 - bar)

    def clean(self, x: Array, output: Array, clip: bool) -> Array:
        """The image without noise, as predicted."""
        if self.spec.predict == "eps":
            x0 = (x - math.sqrt(1 - self.bar) * output) / math.sqrt(self.bar)
        elif self.spec.predict == "x0":
            x0 = output
        else:
            x0 = (output - self._from_x() * x) / self._from_x0()
        return np.clip(x0, -1, 1) if clip else x0

    def ddpm(self, x: Array, output: Array, spread: Array | None, noise: Array, clip: bool) -> Array:
        """The image a step earlier, drawn."""
        x0 = self.clean(x, output, clip)
        mean = output if self.spec.predict == "x_prev" else self._from_x0() * x0 + self._from_x() * x
        if self.before == 1:
            return mean
        if self.spec.variance == "learned-range":
            assert spread is not None
            share = (spread + 1) / 2
            variance = np.exp(share * math.log(self.beta) + (1 - share) * math.log(self.least))
        else:
            variance = np.array(self.beta if self.spec.variance == "fixed-large" else self.least)
        return mean + np.sqrt(variance) * noise

    def ddim(self, x: Array, output: Array, noise: Array, eta: float, clip: bool) -> Array:
        """The image a step earlier, with as much noise as `eta` says."""
        x0 = self.clean(x, output, clip)
        eps = (x - math.sqrt(self.bar) * x0) / math.sqrt(1 - self.bar)
        sigma = eta * math.sqrt((1 - self.before) / (1 - self.bar)) * math.sqrt(1 - self.bar / self.before)
        return math.sqrt(self.before) * x0 + math.sqrt(1 - self.before - sigma**2) * eps + sigma * noise

    def _from_x0(self) -> float:
        return math.sqrt(self.before) * self.beta / (1 - self.bar)

    def _from_x(self) -> float:
        return math.sqrt(self.alpha) * (1 - self.before) / (1 - self.bar)
