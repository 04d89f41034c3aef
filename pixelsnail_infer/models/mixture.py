"""The discretised mixture of logistics of PixelCNN++, in PyTorch: likelihood for training, and the draw as reference.

Layout of the parameters [B, n_params, H, W], with M logistics and C colours: M logits; then for each colour M means, M
log-scales and, if C is 3, M coefficients. The coefficients, through tanh, move the means by the colours before: the
first of them that of green by red, the second that of blue by red, the third that of blue by green.

Shapes: `B` images, `C` colours, `M` logistics, `H W` rows and columns. Values are in [-1, 1]; `bits` says into how many
bins, 2**bits, they fall.

Sources: Salimans et al. 2017, "PixelCNN++", section 2; the public code of the original, neocxi/pixelsnail-public
(`pixel_cnn_pp/nn.py`), from which the floor of the log-scales, the edges and the approximation below 1e-5 are.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from pixelsnail_infer.errors import RequestError

__all__ = ["Mixture", "bits_per_dimension", "draw", "log_likelihood", "round_to_grid", "unpack"]

LEAST_LOG_SCALE = -7.0
EDGE = 0.999  # values beyond it fall into the first or the last bin, which reach to infinity
UNLIKELY = 1e-5  # below it a bin's probability is taken from the density at its centre


class Mixture(NamedTuple):
    """The parameters by their meaning."""

    logits: Tensor
    """[B, M, H, W], not normalised."""
    means: Tensor
    """[B, C, M, H, W], without what the colours before add."""
    log_scales: Tensor
    """[B, C, M, H, W], at least -7."""
    coefficients: Tensor
    """[B, 3, M, H, W] in (-1, 1); [B, 0, M, H, W] for one colour."""


def unpack(params: Tensor, channels: int) -> Mixture:
    """[B, n_params, H, W] by meaning. Raises RequestError when n_params does not suit `channels`, 1 or 3."""
    batch, count, height, width = params.shape
    each = {1: 3, 3: 10}.get(channels, 0)
    if not each or count % each:
        raise RequestError(f"{count} parameters for {channels} colours; a logistic has 3 with 1 colour and 10 with 3")
    mixtures = count // each
    logits, rest = params.split([mixtures, count - mixtures], dim=1)
    kinds = rest.reshape(batch, channels, -1, mixtures, height, width)  # [B, C, 2 or 3, M, H, W]
    coefficients = torch.tanh(kinds[:, :, 2]) if channels == 3 else kinds[:, :0, 0]
    return Mixture(logits, kinds[:, :, 0], kinds[:, :, 1].clamp_min(LEAST_LOG_SCALE), coefficients)


def log_likelihood(params: Tensor, pixels: Tensor, *, bits: int = 8) -> Tensor:
    """Natural logarithm of the probability of every pixel given its parameters, summed over colours: [B, H, W].

    Takes params [B, n_params, H, W] and pixels [B, C, H, W] in [-1, 1], on the grid of 2**bits values or between: any
    value stands for the bin of that width around it. A colour's bin with a probability of 1e-5 or less counts by the
    density at its centre. Differentiable. Raises RequestError when shapes do not fit.
    """
    channels = pixels.shape[1]
    mixture = unpack(params, channels)
    x = pixels.unsqueeze(2)  # [B, C, 1, H, W]
    means = _moved_means(mixture, x) if channels == 3 else mixture.means
    half = 1.0 / (2**bits - 1)
    precision = torch.exp(-mixture.log_scales)
    centred = x - means  # [B, C, M, H, W]
    upper, lower, middle = precision * (centred + half), precision * (centred - half), precision * centred
    inside = torch.sigmoid(upper) - torch.sigmoid(lower)
    at_centre = middle - mixture.log_scales - 2.0 * F.softplus(middle) + math.log(2 * half)
    log_inside = torch.where(inside > UNLIKELY, torch.log(inside.clamp_min(1e-12)), at_centre)
    log_bin = torch.where(
        x < -EDGE, upper - F.softplus(upper), torch.where(x > EDGE, -F.softplus(lower), log_inside)
    )  # [B, C, M, H, W]
    joint = log_bin.sum(dim=1) + F.log_softmax(mixture.logits, dim=1)  # [B, M, H, W]
    return torch.logsumexp(joint, dim=1)


def _moved_means(mixture: Mixture, x: Tensor) -> Tensor:
    """The means [B, 3, M, H, W] after the colours x [B, 3, 1, H, W] before each have moved them."""
    red, green, blue = mixture.means.unbind(dim=1)
    by = mixture.coefficients
    green = green + by[:, 0] * x[:, 0]
    blue = blue + by[:, 1] * x[:, 0] + by[:, 2] * x[:, 1]
    return torch.stack([red, green, blue], dim=1)


def bits_per_dimension(params: Tensor, pixels: Tensor, *, bits: int = 8) -> Tensor:
    """The mean over all colours of all pixels of minus the base-2 logarithm of their probability, a scalar."""
    return -log_likelihood(params, pixels, bits=bits).mean() / (pixels.shape[1] * math.log(2))


def round_to_grid(pixels: Tensor, *, bits: int = 8) -> Tensor:
    """The nearest of the 2**bits values in [-1, 1]."""
    steps = (2**bits - 1) / 2
    return torch.round((pixels + 1.0) * steps) / steps - 1.0


def draw(
    params: Tensor, gumbel: Tensor, logistic: Tensor, *, temperature: float | Tensor = 1.0, bits: int | None = None
) -> Tensor:
    """Pixels [B, C, H, W] in [-1, 1] from params [B, n_params, H, W] and noise.

    `gumbel` [B, M, H, W] chooses the logistic, `logistic` [B, C, H, W] is standard logistic noise; both are multiplied
    by `temperature`, so that 0 gives the mean of the likeliest logistic. Colours are drawn in order and clipped to
    [-1, 1] before the next sees them, and, with `bits`, rounded to the grid as well; the original does not round.
    """
    channels = logistic.shape[1]
    mixture = unpack(params, channels)
    chosen = F.one_hot((mixture.logits + temperature * gumbel).argmax(dim=1), mixture.logits.shape[1])  # [B, H, W, M]
    one_hot = chosen.movedim(3, 1).unsqueeze(1).to(params.dtype)  # [B, 1, M, H, W]
    mean, log_scale, by = (
        (part * one_hot).sum(dim=2) for part in (mixture.means, mixture.log_scales, mixture.coefficients)
    )  # [B, C or 3, H, W]
    free = mean + torch.exp(log_scale) * temperature * logistic  # [B, C, H, W]

    def finish(value: Tensor) -> Tensor:
        clipped = value.clamp(-1.0, 1.0)
        return clipped if bits is None else round_to_grid(clipped, bits=bits)

    red = finish(free[:, 0])
    if channels == 1:
        return red.unsqueeze(1)
    green = finish(free[:, 1] + by[:, 0] * red)
    blue = finish(free[:, 2] + by[:, 1] * red + by[:, 2] * green)
    return torch.stack([red, green, blue], dim=1)
