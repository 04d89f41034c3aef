"""The variational bound of an image's likelihood, in bits per dimension: what a step costs, and the prior.

Ho et al. (2020), equation 5, as openai/improved-diffusion computes it: between the steps the divergence of two normal
distributions, at the last step the probability of the 256 grey levels, with a normal distribution's own approximated by
a hyperbolic tangent. Arrays are float64 [B, C, H, W]; the levels' probabilities are taken in float32, as there: far
from the mean they are lost in rounding and count as `LEAST`, and more digits would give another bound.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.runtime.denoising.schedule import Schedule

__all__ = ["prior_bits", "step_bits"]

Array = NDArray[np.float64]
LEAST = np.float32(1e-12)  # probability of a level
HALF_LEVEL = np.float32(1.0 / 255.0)
EDGE = 0.999  # beyond it a level takes all that lies outside


def step_bits(schedule: Schedule, step: int, image: Array, x: Array, mean: Array, log_variance: Array) -> Array:
    """What the step costs [B], given the image without noise, the one with it, and what the network makes of it."""
    if step == 0:
        return _mean(-_level_log_probability(image, mean, 0.5 * log_variance))
    bar, before = schedule.bars[step], schedule.before[step]
    beta = 1.0 - bar / before
    true_mean = (beta * np.sqrt(before) * image + (1.0 - before) * np.sqrt(1.0 - beta) * x) / (1.0 - bar)
    return _mean(_divergence(true_mean, np.log(beta * (1.0 - before) / (1.0 - bar)), mean, log_variance))


def prior_bits(schedule: Schedule, image: Array) -> Array:
    """What is left of the image in the noise that drawing starts from [B]."""
    bar = schedule.bars[-1]
    return _mean(_divergence(np.sqrt(bar) * image, np.log(1.0 - bar), 0.0, 0.0))


def _divergence(mean: Array, log_variance: float, other: Array | float, log_other: Array | float) -> Array:
    """KL of the first normal distribution from the second, in nats."""
    apart = (mean - other) ** 2 * np.exp(-np.asarray(log_other))
    result: Array = 0.5 * (log_other - log_variance - 1.0 + np.exp(log_variance - np.asarray(log_other)) + apart)
    return result


def _level_log_probability(image: Array, mean: Array, log_deviation: Array) -> Array:
    apart, narrow = (image - mean).astype(np.float32), np.exp(-log_deviation.astype(np.float32))
    above, below = _cumulative(narrow * (apart + HALF_LEVEL)), _cumulative(narrow * (apart - HALF_LEVEL))
    mass = np.where(image < -EDGE, above, np.where(image > EDGE, 1.0 - below, above - below))
    return np.log(np.maximum(mass, LEAST)).astype(np.float64)


def _cumulative(z: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of a standard normal distribution, about; float32."""
    inner = np.float32(np.sqrt(2.0 / np.pi)) * (z + np.float32(0.044715) * z**3)
    bent = np.tanh(inner.astype(np.float64)).astype(np.float32)  # NumPy's own of float32 may be off by several units
    return np.float32(0.5) * (np.float32(1.0) + bent)


def _mean(nats: Array) -> Array:
    """Over all dimensions, in bits."""
    result: Array = nats.reshape(len(nats), -1).mean(axis=1) / np.log(2.0)
    return result
