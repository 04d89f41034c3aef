"""What the VQ first stage of a latent diffusion model is built from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pixelsnail_infer.codec import CodesSpec, ImageSpec
from pixelsnail_infer.errors import ModelError

__all__ = ["GROUPS", "FirstStageConfig"]

GROUPS = 32
"""Groups of every group norm in the public code."""


@dataclass(frozen=True, slots=True)
class FirstStageConfig:
    """The sizes and choices of one first stage; the defaults are those of the published vq-f4.

    Raises ModelError when the values cannot make a network.
    """

    shape: tuple[int, int]
    """(H, W), rows and columns of the image; no checkpoint stores it."""
    levels: int = 8192
    """Size of the code book."""
    channels: int = 3
    """Colours of the image."""
    ch: int = 128
    """Channels after the first convolution."""
    widths: tuple[int, ...] = (128, 256, 512)
    """Channels at each resolution, from the image's down to the codes'."""
    n_res_block: int = 2
    """Residual blocks at each resolution of the encoder; the decoder has one more."""
    attention: tuple[int, ...] = ()
    """Resolutions, counted as in `widths`, whose residual blocks are each followed by an attention block."""
    mid_attention: bool = True
    """Whether there is an attention block between the two residual blocks in the middle."""
    shortcut: Literal["nin", "conv"] = "nin"
    """Where widths change, a residual block adds a 1×1 (nin) or a 3×3 (conv) convolution of its input."""
    resample_conv: bool = True
    """Whether resampling has a 3×3 convolution."""
    z_channels: int = 3
    embed_dim: int = 3
    """Length of a code's vector."""

    def __post_init__(self) -> None:
        small = {"levels": self.levels, "z_channels": self.z_channels, "embed_dim": self.embed_dim}
        for name, value in {**small, "n_res_block": self.n_res_block, "resolutions": len(self.widths)}.items():
            if value < 1:
                raise ModelError(f"{name} is {value}; it must be 1 or more")
        if self.channels not in (1, 3):
            raise ModelError(f"images have {self.channels} channels; 1 or 3 are supported")
        for width in (self.ch, *self.widths):
            if width < 1 or width % GROUPS:
                raise ModelError(f"a layer has {width} channels, which the group norm's {GROUPS} groups do not divide")
        if any(not 0 <= level < len(self.widths) for level in self.attention):
            raise ModelError(f"attention at resolutions {list(self.attention)} of {len(self.widths)} cannot be")
        if any(size < 1 or size % self.factor for size in self.shape):
            raise ModelError(
                f"the image has {self.shape[0]}x{self.shape[1]} pixels, but this model needs multiples of "
                f"{self.factor}; choose another size (--shape)"
            )

    @property
    def factor(self) -> int:
        """How many times finer the image is than the codes."""
        return 2 ** (len(self.widths) - 1)

    @property
    def image(self) -> ImageSpec:
        """The image."""
        return ImageSpec(self.channels, self.shape)

    @property
    def codes(self) -> tuple[CodesSpec, ...]:
        """The one level of codes."""
        return (CodesSpec("codes", (self.shape[0] // self.factor, self.shape[1] // self.factor), self.levels),)
