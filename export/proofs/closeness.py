"""How close the graphs' draws and likelihoods are to PyTorch's, in units of the network's output.

Both are measured by how much the parameters (logits) of a pixel would have to change: a narrow logistic turns the last
bits of a mean into large differences of a likelihood, and a near-tie of two logits into another draw.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.distributions import Distribution, LogisticMixture, log_softmax
from pixelsnail_infer.distributions.grid import snap
from pixelsnail_infer.distributions.mixture import EDGE, HALF_BIN, LOG_SMALL, bin_masses, earlier

__all__ = ["draw_distance", "score_slack"]

Array = NDArray[np.float64]


def draw_distance(distribution: Distribution, parameters: NDArray[np.float32], noise: NDArray[np.float32],
                  heat: NDArray[np.float32], pixels: NDArray[np.generic]) -> tuple[Array, NDArray[np.bool_]]:
    """How little every parameter would have to change for `pixels` `[...]` to be the draw, to first order, and where it
    is another choice (of a code, or of a component) than without a change.

    `parameters [..., n]`, `noise [..., width]`, `heat [...]` (the temperature). Each channel of a mixture is confirmed
    given the channels that were drawn before it; a rounded one is
    the level whose bin its value lies in.
    """
    warm = np.asarray(heat, np.float64)[..., None]
    if not isinstance(distribution, LogisticMixture):
        scores = parameters + warm * noise
        behind = scores.max(-1) - np.take_along_axis(scores, pixels[..., None].astype(np.int64), -1)[..., 0]
        return behind / 2, behind > 0
    parts, x = distribution.parts(parameters.astype(np.float64)), pixels.astype(np.float64)
    scores = parts.logits + warm * noise[..., :distribution.n_mix]
    gaps = (scores.max(-1, keepdims=True) - scores) / 2  # [..., K]
    spread = warm[..., None] * np.exp(parts.log_scales) * noise[..., distribution.n_mix:, None]  # [..., C, K]
    off = np.abs(np.clip(distribution.centres(parts, x) + spread, -1, 1) - x[..., None])
    if distribution.round:
        off = np.maximum(off - HALF_BIN, 0) + np.abs(x - snap(x))[..., None]
    needed = np.maximum(gaps, (off / (1 + np.abs(spread) + _before(x))).max(-2))  # [..., K]
    return needed.min(-1), needed.argmin(-1) != scores.argmax(-1)


def score_slack(distribution: Distribution, parameters: NDArray[np.float32], pixels: NDArray[np.generic], change: float
                ) -> Array:
    """By how much the log-probability of `pixels` `[...]` may move, to first order, where no parameter `[..., n]` moves
    by more than `change`. Where a bin of a mixture is about to be taken by its density, that may happen or not."""
    if not isinstance(distribution, LogisticMixture):
        return np.full(parameters.shape[:-1], change)
    parts, x = distribution.parts(parameters.astype(np.float64)), pixels.astype(np.float64)
    centres, here = distribution.centres(parts, x), x[..., None]
    below, above, inside, density = bin_masses(here, centres, parts.log_scales)
    inner = np.where(inside > LOG_SMALL, inside, density)
    each = np.where(here < -EDGE, below, np.where(here > EDGE, above, inner))
    share = np.exp(log_softmax(each.sum(-2) + log_softmax(parts.logits)))  # [..., K]
    slope = 1 + np.exp(-parts.log_scales) * (1 + np.abs(here - centres) + _before(x))  # [..., C, K]
    switches = (np.abs(inside - LOG_SMALL) <= change * slope) & (np.abs(here) <= EDGE)
    moved = change * slope + np.where(switches, np.abs(inside - density), 0)
    return change + (share * moved.sum(-2)).sum(-1)


def _before(x: Array) -> Array:
    """How much coefficients weigh in each channel of `x [..., C]`: the sum of the channels before, `[..., C, 1]`."""
    sums = [sum((np.abs(x[..., other]) for _, other in earlier(channel)), np.zeros(x.shape[:-1]))
            for channel in range(x.shape[-1])]
    return np.stack(sums, -1)[..., None]
