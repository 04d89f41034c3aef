"""The discretised mixture of logistics over the channels of a pixel, in NumPy: likelihoods, and the reference of the
draw.

From PixelCNN++ (Salimans et al. 2017, section 2.1), as the original has it (`discretized_mix_logistic_loss` and
`sample_from_discretized_mix_logistic` of neocxi/pixelsnail-public). `K` is the number of mixtures, `C` of channels, 1
or 3, `x` a pixel in [-1, 1]. The network's parameters of a pixel lie as

    C = 3   [10 K]   K logits, then for each channel K means, K log-scales, K coefficients
    C = 1   [3 K]    K logits, K means, K log-scales

Log-scales are floored at -7; coefficients pass through tanh. With the coefficients c0, c1, c2 of the three channels,
channel 1's mean moves by c0 x0, channel 2's by c1 x0 + c2 x1. A channel's probability is the logistic's mass within
1/255 of x: open to the left where x < -0.999, to the right where x > 0.999, and the density at x times 1/127.5 where it
is 1e-5 or less. A draw takes one component for all channels, then the channels in order, each clipped to [-1, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixelsnail_infer.distributions.categorical import log_softmax
from pixelsnail_infer.distributions.grid import snap
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.noise import mixture_row

__all__ = ["EDGE", "HALF_BIN", "LOG_BIN", "LOG_SMALL", "LOWEST", "LogisticMixture", "Parts", "earlier"]

LOWEST = -7.0  # of log-scales
EDGE = 0.999  # beyond, a pixel is black or white
HALF_BIN = 1 / 255
LOG_SMALL = math.log(1e-5)  # at or below, the density stands for the mass
LOG_BIN = math.log(127.5)


class Parts(NamedTuple):
    """The parameters of a pixel: logits [… K], means and floored log-scales [… C, K], coefficients [… C, K], or [… 0,
    K] where C is 1."""

    logits: NDArray[Any]
    means: NDArray[Any]
    log_scales: NDArray[Any]
    coefficients: NDArray[Any]


def earlier(channel: int) -> list[tuple[int, int]]:
    """(coefficient, earlier channel) of the pairs that move a channel's mean."""
    return [(channel * (channel - 1) // 2 + other, other) for other in range(channel)]


@dataclass(frozen=True, slots=True)
class LogisticMixture:
    """`n_mix` mixtures over `channels` (1 or 3). With `round` each drawn channel is rounded to the 8-bit grid before it
    is fed back. Raises `RequestError` for other numbers."""

    n_mix: int
    channels: int
    round: bool = False

    def __post_init__(self) -> None:
        if self.channels not in (1, 3) or self.n_mix < 1:
            what = f"n_mix is {self.n_mix} and channels {self.channels}"
            raise RequestError(f"{what}, expected at least one mixture over 1 or 3 channels.")

    @property
    def parameters(self) -> int:
        """10 K for three channels, 3 K for one."""
        return self.n_mix * (10 if self.channels == 3 else 3)

    @property
    def noise_width(self) -> int:
        """K Gumbels and C logistics."""
        return self.n_mix + self.channels

    @property
    def pixel_shape(self) -> tuple[int, ...]:
        return (self.channels,)

    @property
    def dtype(self) -> str:
        return "float32"

    @property
    def filters(self) -> bool:
        return False

    @property
    def blank(self) -> float:
        return math.nan

    def noise_row(
        self, keys: NDArray[np.uint64], row: int, width: int, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """See `pixelsnail_infer.noise.mixture_row`."""
        return mixture_row(keys, row, width, self.n_mix, self.channels, out)

    def parts(self, parameters: NDArray[Any]) -> Parts:
        """Take `parameters` [… 10 K or 3 K] apart; the dtype stays."""
        kinds = 3 if self.channels == 3 else 2
        logits, rest = parameters[..., : self.n_mix], parameters[..., self.n_mix :]
        rest = rest.reshape(*rest.shape[:-1], self.channels, kinds, self.n_mix)
        coefficients = np.tanh(rest[..., 2, :]) if kinds == 3 else rest[..., :0, 0, :]
        return Parts(logits, rest[..., 0, :], np.maximum(rest[..., 1, :], LOWEST), coefficients)

    def centres(self, parts: Parts, pixels: NDArray[Any]) -> NDArray[Any]:
        """Means [… C, K] once earlier channels of `pixels` [… C] are known."""
        centres = parts.means.copy()
        for channel in range(1, self.channels):
            for coefficient, other in earlier(channel):
                centres[..., channel, :] += parts.coefficients[..., coefficient, :] * pixels[..., other, None]
        return centres

    def log_probability(self, parameters: ArrayLike, pixels: ArrayLike) -> NDArray[np.float64]:
        """Natural-log probability of whole pixels, float64 […], of `pixels` [… C] under `parameters` [… n]; in
        float64."""
        parts = self.parts(np.asarray(parameters, np.float64))
        x = np.asarray(pixels, np.float64)
        each = channel_log_mass(x[..., None], self.centres(parts, x), parts.log_scales)  # [… C, K]
        joint = each.sum(axis=-2) + log_softmax(parts.logits)
        most = joint.max(axis=-1, keepdims=True)
        result: NDArray[np.float64] = most[..., 0] + np.log(np.exp(joint - most).sum(axis=-1))
        return result

    def draw(self, parameters: ArrayLike, noise: ArrayLike, temperature: ArrayLike) -> NDArray[np.float32]:
        """Reference draw, float32 [… C], from `parameters` [… n], `noise` [… K + C] and `temperature` […], in float32.

        The temperature T scales both kinds of noise: components are drawn from softmax(logits / T), and the logistics
        are T times as wide. At 0 the most probable component's mean is taken, which need not be the most probable
        pixel. The lowest component wins a tie.
        """
        parts = self.parts(np.asarray(parameters, np.float32))
        given, heat = np.asarray(noise, np.float32), np.asarray(temperature, np.float32)[..., None]
        component = np.argmax(parts.logits + heat * given[..., : self.n_mix], axis=-1)
        one = component[..., None, None]
        means, log_scales, coefficients = (_taken(array, one) for array in parts[1:])  # [… C]
        values = means + heat * np.exp(log_scales) * given[..., self.n_mix :]
        drawn = np.empty(values.shape, np.float32)
        for channel in range(self.channels):
            value = values[..., channel]
            for coefficient, other in earlier(channel):
                value = value + coefficients[..., coefficient] * drawn[..., other]
            value = np.clip(value, -1, 1)
            drawn[..., channel] = snap(value) if self.round else value
        return drawn

    def bits_per_dim(self, logprob: ArrayLike) -> NDArray[np.float64]:
        """Bits per dimension, float64 [n], of `logprob` [n, H, W]: over H W C numbers."""
        values = np.asarray(logprob, np.float64)
        result: NDArray[np.float64] = -values.reshape(len(values), -1).mean(axis=1) / (self.channels * math.log(2.0))
        return result


def channel_log_mass(x: NDArray[Any], centres: NDArray[Any], log_scales: NDArray[Any]) -> NDArray[Any]:
    """Natural-log probability of each channel's bin under each component, broadcast over all three arguments."""
    below, above, inside, density = bin_masses(x, centres, log_scales)
    inner = np.where(inside > LOG_SMALL, inside, density)
    result: NDArray[Any] = np.where(x < -EDGE, below, np.where(x > EDGE, above, inner))
    return result


def bin_masses(x: NDArray[Any], centres: NDArray[Any], log_scales: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Logarithms of the mass up to the bin's right end, from its left end on, inside, and of the density times 1/127.5.

    Stable where the original subtracts two sigmoids: s(a) - s(b) = s(a) s(-b) (1 - e^(b-a)), and 1 - e^-d = 2t / (1 +
    t) with t = tanh(d/2).
    """
    narrow = np.exp(-log_scales)
    middle = narrow * (x - centres)
    below = -softplus(-(middle + narrow * HALF_BIN))  # log s(a): the mass up to the bin's right end
    above = -softplus(middle - narrow * HALF_BIN)  # log (1 - s(b)): the mass from its left end on
    inside = below + above + log_bin_share(narrow)
    density = middle - log_scales - 2 * softplus(middle) - LOG_BIN
    return below, above, inside, density


def _taken(array: NDArray[Any], index: NDArray[Any]) -> NDArray[Any]:
    """The entries [… C] at `index` [… 1, 1] of the last axis of `array` [… C, K]."""
    result: NDArray[Any] = np.take_along_axis(array, np.broadcast_to(index, (*array.shape[:-1], 1)), axis=-1)[..., 0]
    return result


def log_bin_share(narrow: NDArray[Any]) -> NDArray[Any]:
    """log(1 - e^-d) for a bin of d = 2/255 scales, with `narrow` = 1 / scale."""
    t = np.tanh(narrow * HALF_BIN)
    result: NDArray[Any] = np.log(2 * t / (1 + t))
    return result


def softplus(x: NDArray[Any]) -> NDArray[Any]:
    """log(1 + e^x), without overflow."""
    result: NDArray[Any] = np.logaddexp(0, x)
    return result
