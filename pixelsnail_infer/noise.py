"""Noise, version 1: the numbers that turn logits, or the parameters of a mixture, into a draw.

Adding independent Gumbel noise to log-probabilities and taking the argmax draws from them (Gumbel-max trick: Gumbel,
Statistical Theory of Extreme Values, 1954; Maddison et al., A* Sampling, 2014). The numbers come from Philox 4×64-10, a
counter-based generator (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011), with one stream per image
and row:

    key = (s, k)   counter = (0, 0, 0, row)      NumPy's Philox, which steps the counter before each block
    u   = ((raw >> 12) + 0.5) · 2^-52            float64, exact, strictly inside (0, 1)
    g   = -log(-log(u))                          float64, then cast to float32

Number `j·levels + c` of a row's stream belongs to column j and level c. A mixture of logistics takes `n_mix` Gumbels
and then one standard logistic for each channel, so that number `j·(n_mix + channels) + c` belongs to column j:

    v = 1e-5 + (1 - 2e-5)·u             the original's uniforms, which end at 1e-5 and 1 - 1e-5
    l = log(v) - log(1 - v)             float64, then cast to float32; at most 11.5 in size

A denoiser takes standard normal numbers, in pairs (Box and Muller, 1958), from a stream for each image, use and step of
the whole diffusion, so that the noise of a step is the same whichever other steps are taken:

    counter = (0, 0, use, step)        use 1: drawing, the noise that the step adds; step T, the number of steps, is
                                       the noise that drawing starts from. use 2: what is added to an image to score it
    z[2j], z[2j+1] = sqrt(-2·log(u[2j])) · (cos, sin)(2π·u[2j+1])      float64, then cast to float32

and number `(c·H + i)·W + j` belongs to channel c of pixel (i, j).

An image's noise therefore depends on its key and the row, or the step, only, not on its neighbours, its slot or the
batch. (52 bits, not 53: with 53 the largest value plus a half rounds up to 1.)

Nothing here keeps state; every function may be called from any thread.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import shown

NOISE_VERSION = 1
DRAWING, SCORING = 1, 2
"""What normal numbers are used for."""
_LIMIT = 1 << 64
_MARGIN = 1e-5  # of the uniforms of logistics


def image_keys(seed: int | Sequence[int] | NDArray[np.integer], n: int) -> NDArray[np.uint64]:
    """Philox keys, uint64 [n, 2], of the n images of a call.

    An integer `seed` s gives image k the key (s, k); a sequence of n seeds gives image k the key (seed[k], 0). So
    image 0 of `seed=s` is the image of `seed=[s]`. An array uint64 [n, 2] holds the keys themselves, as `numbered_keys`
    makes them. Raises `RequestError` for a seed outside 0 … 2^64 - 1 or a wrong count.
    """
    if isinstance(seed, np.ndarray) and seed.shape == (n, 2) and seed.dtype == np.uint64:
        return seed.astype(np.uint64)
    keys = np.zeros((n, 2), np.uint64)
    if isinstance(seed, (str, bytes)) or not (np.ndim(seed) == 0 or isinstance(seed, (Sequence, np.ndarray))):
        raise RequestError(f"seed is {shown(seed)}, expected an integer or a sequence of {n} integers.")
    if np.ndim(seed) == 0:
        return numbered_keys(seed, 0, n)  # type: ignore[arg-type]
    seeds = list(seed)  # type: ignore[arg-type]
    if len(seeds) != n:
        raise RequestError(f"seed has {len(seeds)} entries for {n} images; give one integer, or one per image.")
    keys[:, 0] = [_seed(one) for one in seeds]
    return keys


def numbered_keys(seed: int, first: int, n: int) -> NDArray[np.uint64]:
    """The keys, uint64 [n, 2], of images first … first + n - 1 of an integer seed, whose image k has the key (seed, k).

    As the `seed` of a call they draw those images alone. Raises `RequestError` for a seed outside 0 … 2^64 - 1.
    """
    keys = np.empty((n, 2), np.uint64)
    keys[:, 0] = _seed(seed)
    keys[:, 1] = np.arange(first, first + n, dtype=np.uint64)
    return keys


def uniform_row(key: NDArray[np.uint64], row: int, count: int, use: int = 0) -> NDArray[np.float64]:
    """The first `count` uniforms, float64 [count] strictly inside (0, 1), of one image's stream for one row (of another
    `use`: one step)."""
    counter = np.array([0, 0, use, row], np.uint64)
    raw = np.random.Philox(key=key, counter=counter).random_raw(count)
    return ((np.asarray(raw, np.uint64) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def gumbel_row(
    keys: NDArray[np.uint64], row: int, width: int, levels: int, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Standard Gumbel noise, float32 [B, width, levels], of one row for B images with `keys` uint64 [B, 2].

    With `out` (float32, that shape) the noise is written there and `out` is returned.
    """
    noise = np.empty((len(keys), width, levels), np.float32) if out is None else out
    for slot, key in enumerate(keys):
        values = _gumbel(uniform_row(key, row, width * levels))
        noise[slot] = values.reshape(width, levels)  # [W·L] → [W, L], cast to float32
    return noise


def mixture_row(
    keys: NDArray[np.uint64],
    row: int,
    width: int,
    n_mix: int,
    channels: int,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Noise of a mixture of logistics, float32 [B, width, n_mix + channels], of one row for B images: for each column
    `n_mix` standard Gumbels, then `channels` standard logistics.

    With `out` (float32, that shape) the noise is written there and `out` is returned.
    """
    count = n_mix + channels
    noise = np.empty((len(keys), width, count), np.float32) if out is None else out
    for slot, key in enumerate(keys):
        values = uniform_row(key, row, width * count).reshape(width, count)  # [W·(K + C)] → [W, K + C]
        inner = _MARGIN + (1 - 2 * _MARGIN) * values[:, n_mix:]
        noise[slot, :, :n_mix] = _gumbel(values[:, :n_mix])
        noise[slot, :, n_mix:] = np.log(inner) - np.log(1 - inner)
    return noise


def normal_image(
    key: NDArray[np.uint64], use: int, step: int, shape: tuple[int, ...], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Standard normal noise, float32 `shape` [C, H, W], of one image's stream for a step of a diffusion.

    With `out` (float32, that shape) the noise is written there and `out` is returned.
    """
    noise = np.empty(shape, np.float32) if out is None else out
    pairs = (noise.size + 1) // 2
    uniforms = uniform_row(key, step, 2 * pairs, use).reshape(pairs, 2)
    sizes, angles = np.sqrt(-2.0 * np.log(uniforms[:, 0])), 2.0 * np.pi * uniforms[:, 1]
    both = np.stack([sizes * np.cos(angles), sizes * np.sin(angles)], axis=1)  # [pairs, 2]
    noise[...] = both.reshape(-1)[: noise.size].reshape(shape)
    return noise


def _gumbel(uniforms: NDArray[np.float64]) -> NDArray[np.float64]:
    """-log(-log(u)), in place."""
    for _ in range(2):
        np.log(uniforms, out=uniforms)
        np.negative(uniforms, out=uniforms)
    return uniforms


def _seed(value: object) -> int:
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        seed = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise RequestError(f"seed is {shown(value)}, expected an integer from 0 to 2^64 - 1.") from None
    if not 0 <= seed < _LIMIT:
        raise RequestError(f"seed is {shown(seed)}, expected an integer from 0 to 2^64 - 1.")
    return seed
