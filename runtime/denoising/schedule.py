"""The steps that a call takes, and the numbers of each: tables in float64, of which the step gets rows in float32.

One graph does every reverse step, because all of them are sums of the same parts. With the network's output o, its
second half v where it learns the variance, and noise z, a row of nine numbers says

    x0   = clip(a x + b o, -limit, limit)
    mean = m_x0 x0 + m_x x + m_o o
    x'   = mean + s exp(½ (n + n_v v)) z

DDPM is Ho et al. (2020), equations 6 and 7, with the variance of Nichol and Dhariwal (2021), equation 15; DDIM is Song
et al. (2020), equation 12, where the noise in x is taken from x0 after clipping. Respacing makes the betas of the taken
steps from their cumulative products (Nichol and Dhariwal, section 4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.denoiser import DiffusionSpec
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.denoising.spacing import Steps, spaced

__all__ = ["COEFFICIENTS", "Schedule", "Table"]

COEFFICIENTS = ("a", "b", "limit", "m_x0", "m_x", "m_o", "n", "n_v", "s")
"""What a row of a table holds, in order."""
RESCALED = 1000.0  # the times of the original paper
UNLIMITED = float(np.finfo(np.float32).max)
MOST_BETA = 0.999  # of the cosine schedule, whose last would be 1
Table = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Schedule:
    """The steps that are taken of a diffusion. Step `k` is the k-th that is taken; the last is where drawing begins.

    `taken` are the steps of the whole diffusion, `times` what the network is told of each, float32, `bars` the
    cumulative products ᾱ at each, and `before` those at the step below, float64.
    """

    spec: DiffusionSpec
    taken: tuple[int, ...]
    times: NDArray[np.float32]
    bars: Table
    before: Table

    @classmethod
    def of(cls, spec: DiffusionSpec, steps: Steps | None = None) -> Schedule:
        """The schedule of what a caller asks for (see `spaced`). Raises `RequestError`."""
        taken = spaced(steps, spec.steps)
        bars = np.asarray(np.cumprod(1.0 - _betas(spec))[list(taken)], np.float64)
        times = np.array(taken, np.float32)
        if spec.rescale_timesteps:
            times *= np.float32(RESCALED / spec.steps)
        return cls(spec, taken, times, bars, np.append(1.0, bars[:-1]))

    def __len__(self) -> int:
        return len(self.taken)

    def ddpm(self, clip: bool = True) -> Table:
        """The table [steps, 9] of ancestral sampling."""
        betas = 1.0 - self.bars / self.before
        from_x0 = betas * np.sqrt(self.before) / (1.0 - self.bars)
        from_x = (1.0 - self.before) * np.sqrt(1.0 - betas) / (1.0 - self.bars)
        table = self._prediction(from_x0, from_x, clip)
        if self.spec.predict == "x_prev":
            table[:, 5] = 1.0
        else:
            table[:, 3], table[:, 4] = from_x0, from_x
        low, high = self._log_variances(betas)
        table[:, 6], table[:, 7] = {
            "fixed-small": (low, np.zeros_like(low)),
            "fixed-large": (np.append(low[:1], high[1:]), np.zeros_like(low)),
            "learned-range": ((low + high) / 2, (high - low) / 2),
        }[self.spec.variance]
        table[1:, 8] = 1.0  # the last step adds no noise
        return table

    def ddim(self, eta: float = 0.0, clip: bool = True) -> Table:
        """The table [steps, 9] of DDIM; `eta` 0 adds no noise, 1 as much as DDPM with the small variance."""
        if isinstance(eta, bool) or not isinstance(eta, (int, float, np.floating)) or not 0 <= eta <= 1:
            raise RequestError(f"eta is {shown(eta)}, expected a number from 0 to 1.")
        betas = 1.0 - self.bars / self.before
        from_x0 = betas * np.sqrt(self.before) / (1.0 - self.bars)
        from_x = (1.0 - self.before) * np.sqrt(1.0 - betas) / (1.0 - self.bars)
        table = self._prediction(from_x0, from_x, clip)
        sigma = eta * np.sqrt((1.0 - self.before) / (1.0 - self.bars)) * np.sqrt(betas)
        kept = np.sqrt(np.maximum(1.0 - self.before - sigma**2, 0.0)) / np.sqrt(1.0 - self.bars)  # of the noise in x
        table[:, 3] = np.sqrt(self.before) - kept * np.sqrt(self.bars)
        table[:, 4] = kept
        table[1:, 8] = sigma[1:]
        return table

    def _prediction(self, from_x0: Table, from_x: Table, clip: bool) -> Table:
        """A table of zeros but for how x0 comes from x and the network's output."""
        table = np.zeros((len(self), len(COEFFICIENTS)))
        table[:, 0], table[:, 1] = {
            "eps": (np.sqrt(1.0 / self.bars), -np.sqrt(1.0 / self.bars - 1.0)),
            "x0": (np.zeros(len(self)), np.ones(len(self))),
            "x_prev": (-from_x / from_x0, 1.0 / from_x0),
        }[self.spec.predict]
        table[:, 2] = 1.0 if clip else UNLIMITED
        return table

    def _log_variances(self, betas: Table) -> tuple[Table, Table]:
        """Logarithms of the smallest and the largest variance of each step. The smallest would be 0 at the first, which
        takes that of the second; where one step is all there is, both are its beta."""
        posterior = betas * (1.0 - self.before) / (1.0 - self.bars)
        posterior[0] = posterior[1] if len(self) > 1 else betas[0]
        return np.log(posterior), np.log(betas)


def _betas(spec: DiffusionSpec) -> Table:
    """The share of noise that every step of the whole diffusion adds."""
    if spec.noise_schedule == "linear":
        scale = RESCALED / spec.steps
        return np.minimum(np.linspace(scale * 1e-4, scale * 0.02, spec.steps), 1.0)
    bar = [math.cos((k / spec.steps + 0.008) / 1.008 * math.pi / 2) ** 2 for k in range(spec.steps + 1)]
    return np.array([min(1.0 - after / before, MOST_BETA) for before, after in zip(bar, bar[1:], strict=False)])
