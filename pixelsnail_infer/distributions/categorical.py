"""The categorical distribution of a pixel, in NumPy: likelihoods, and the slow reference of the draw in the graphs.

`L` is the number of levels; `…` stands for any leading axes. Every function is pure and may be called from any thread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixelsnail_infer.noise import gumbel_row

__all__ = ["Categorical", "bits_per_dim", "draw", "kept", "log_probability", "log_softmax"]


def log_softmax(logits: ArrayLike) -> NDArray[np.float64]:
    """Natural-log probabilities, float64 [… L], of `logits` [… L]; computed in float64."""
    values = np.asarray(logits, np.float64)
    shifted = values - values.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def log_probability(logits: ArrayLike, codes: ArrayLike) -> NDArray[np.float64]:
    """Natural-log probability, float64 […], of `codes` int […] under `logits` [… L]."""
    chosen = np.asarray(codes)[..., None]
    result: NDArray[np.float64] = np.take_along_axis(log_softmax(logits), chosen, axis=-1)[..., 0]
    return result


def bits_per_dim(logprob: ArrayLike) -> NDArray[np.float64]:
    """Bits per dimension, float64 [n], of natural-log probabilities [n, H, W]: minus their mean over log 2."""
    values = np.asarray(logprob, np.float64)
    result: NDArray[np.float64] = -values.reshape(len(values), -1).mean(axis=1) / math.log(2.0)
    return result


def kept(
    logits: ArrayLike, temperature: ArrayLike, top_k: ArrayLike | None = None, top_p: ArrayLike | None = None
) -> NDArray[np.bool_]:
    """Which levels the filters leave, bool [… L]. `temperature`, `top_k` and `top_p` broadcast over […].

    The filters act on softmax(logits / temperature). Top-k keeps the k most probable levels; top-p then keeps, of what
    is left and renormalised, the shortest run of most probable levels whose mass reaches p (a level stays when the mass
    before it is below p). The lower level wins a tie. The most probable level always stays, and alone at temperature 0.
    """
    values = np.asarray(logits, np.float64)
    levels = values.shape[-1]
    heat = np.broadcast_to(np.asarray(temperature, np.float64), values.shape[:-1])[..., None]
    k = np.broadcast_to(np.asarray(levels if top_k is None else top_k), values.shape[:-1])[..., None]
    p = np.broadcast_to(np.asarray(1.0 if top_p is None else top_p, np.float64), values.shape[:-1])[..., None]
    order = np.argsort(-values, axis=-1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=-1)
    with np.errstate(over="ignore"):  # a tiny temperature sends all but the best level to -inf, as it should
        scaled = (ordered - ordered[..., :1]) / np.where(heat > 0, heat, 1.0)
    stays = np.arange(levels) < np.where(heat > 0, np.maximum(k, 1), 1)
    weights = np.where(stays, np.exp(scaled), 0.0)
    mass = np.cumsum(weights, axis=-1) / weights.sum(axis=-1, keepdims=True)
    before = np.concatenate([np.zeros_like(mass[..., :1]), mass[..., :-1]], axis=-1)
    stays &= (before < p) | (p >= 1.0)
    stays[..., 0] = True
    result = np.zeros(values.shape, bool)
    np.put_along_axis(result, order, stays, axis=-1)
    return result


def draw(
    logits: ArrayLike,
    noise: ArrayLike,
    temperature: ArrayLike,
    top_k: ArrayLike | None = None,
    top_p: ArrayLike | None = None,
) -> NDArray[np.int64]:
    """Reference draw, int64 […]: argmax of logits + temperature · noise over the levels that `kept` leaves.

    `logits` and `noise` are [… L], the others broadcast over […]; the sum is float32, as in the graphs. The lowest
    level wins a tie.
    """
    heat = np.asarray(temperature, np.float32)[..., None]
    scores = np.asarray(logits, np.float32) + heat * np.asarray(noise, np.float32)
    if top_k is not None or top_p is not None:
        scores = np.where(kept(logits, temperature, top_k, top_p), scores, np.float32(-np.inf))
    return np.asarray(np.argmax(scores, axis=-1), np.int64)


@dataclass(frozen=True, slots=True)
class Categorical:
    """Codes 0 … levels - 1 from logits [… levels]: the functions above, as a `Distribution`."""

    levels: int

    @property
    def parameters(self) -> int:
        """One logit for each level."""
        return self.levels

    @property
    def noise_width(self) -> int:
        """One Gumbel for each level."""
        return self.levels

    @property
    def pixel_shape(self) -> tuple[int, ...]:
        return ()

    @property
    def dtype(self) -> str:
        return "int64"

    @property
    def filters(self) -> bool:
        return True

    @property
    def blank(self) -> float:
        return -1

    def noise_row(
        self, keys: NDArray[np.uint64], row: int, width: int, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """See `pixelsnail_infer.noise.gumbel_row`."""
        return gumbel_row(keys, row, width, self.levels, out)

    def log_probability(self, parameters: ArrayLike, pixels: ArrayLike) -> NDArray[np.float64]:
        """See the function of that name."""
        return log_probability(parameters, pixels)

    def draw(self, parameters: ArrayLike, noise: ArrayLike, temperature: ArrayLike) -> NDArray[np.int64]:
        """See the function of that name."""
        return draw(parameters, noise, temperature)

    def bits_per_dim(self, logprob: ArrayLike) -> NDArray[np.float64]:
        """See the function of that name."""
        return bits_per_dim(logprob)
