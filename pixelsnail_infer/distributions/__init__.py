"""How a pixel is distributed: one small protocol, and its two members. NumPy only; the graphs do the same in ONNX."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixelsnail_infer.distributions.categorical import (
    Categorical,
    bits_per_dim,
    draw,
    kept,
    log_probability,
    log_softmax,
)
from pixelsnail_infer.distributions.grid import from_uint8, to_uint8
from pixelsnail_infer.distributions.mixture import LogisticMixture
from pixelsnail_infer.manifest import DistributionSpec, Manifest, PixelSpec

__all__ = [
    "Categorical", "Distribution", "LogisticMixture", "bits_per_dim", "blank_images", "distribution_of", "draw",
    "from_uint8", "image_bytes", "kept", "log_probability", "log_softmax", "specs_of", "to_uint8",
]  # fmt: skip


class Distribution(Protocol):
    """The distribution of one pixel. Immutable; every method is pure and may be called from any thread.

    `…` stands for any leading axes. A pixel has `pixel_shape`: () for a code, (C,) for channels.
    """

    @property
    def parameters(self) -> int:
        """Numbers that the network gives for a pixel: the last axis of the graphs' `logits`."""
        ...

    @property
    def noise_width(self) -> int:
        """Numbers of noise that a pixel takes."""
        ...

    @property
    def pixel_shape(self) -> tuple[int, ...]:
        """Shape of one pixel."""
        ...

    @property
    def dtype(self) -> str:
        """NumPy dtype of pixels: int64 or float32."""
        ...

    @property
    def filters(self) -> bool:
        """Whether top-k and top-p mean anything."""
        ...

    @property
    def blank(self) -> float:
        """What stands where a pixel was not drawn: no valid pixel."""
        ...

    def noise_row(
        self, keys: NDArray[Any], row: int, width: int, out: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """Noise of one row, float32 [B, width, noise_width], for B images with `keys` uint64 [B, 2]."""
        ...

    def log_probability(self, parameters: ArrayLike, pixels: ArrayLike) -> NDArray[Any]:
        """Natural-log probability, float64 […], of `pixels` [… *pixel_shape] under `parameters` [… parameters]."""
        ...

    def draw(self, parameters: ArrayLike, noise: ArrayLike, temperature: ArrayLike) -> NDArray[Any]:
        """The slow reference of the draw: pixels [… *pixel_shape] from noise [… noise_width], in float32."""
        ...

    def bits_per_dim(self, logprob: ArrayLike) -> NDArray[Any]:
        """Bits per dimension, float64 [n], of natural-log probabilities [n, H, W] of whole pixels."""
        ...


def distribution_of(manifest: Manifest) -> Distribution:
    """The distribution that a manifest names."""
    pixel, spec = manifest.pixel, manifest.distribution
    if pixel.kind == "codes":
        return Categorical(pixel.levels or 1)
    return LogisticMixture(spec.n_mix or 1, pixel.channels or 1, bool(spec.round))


def blank_images(manifest: Manifest, n: int) -> NDArray[Any]:
    """Results [n, H, W] or [n, H, W, C] before anything is drawn: `Distribution.blank` everywhere."""
    law = distribution_of(manifest)
    return np.full((n, *manifest.shape, *law.pixel_shape), law.blank, law.dtype)


def image_bytes(manifest: Manifest) -> int:
    """Bytes of one image of a result."""
    law = distribution_of(manifest)
    return int(np.prod((*manifest.shape, *law.pixel_shape), dtype=int)) * np.dtype(law.dtype).itemsize


def specs_of(distribution: Distribution) -> tuple[PixelSpec, DistributionSpec]:
    """What a manifest says of a distribution: `distribution_of` the other way round."""
    if isinstance(distribution, LogisticMixture):
        spec = DistributionSpec("logistic-mixture", distribution.n_mix, distribution.round)
        return PixelSpec("channels", channels=distribution.channels), spec
    return PixelSpec("codes", levels=distribution.parameters), DistributionSpec("categorical")
