"""What a VQ-VAE of one or two levels is built from."""

from __future__ import annotations

from dataclasses import dataclass

from pixelsnail_infer.codec import CodesSpec, ImageSpec
from pixelsnail_infer.errors import ModelError

__all__ = ["VqVaeConfig"]


@dataclass(frozen=True, slots=True)
class VqVaeConfig:
    """The sizes and choices of one VQ-VAE; the defaults are those of the public two-level code.

    Raises ModelError when the values cannot make a network.
    """

    shape: tuple[int, int]
    """(H, W), rows and columns of the image; no checkpoint stores it."""
    levels: tuple[int, ...] = (512, 512)
    """Sizes of the code books, (top, bottom), or one for a single level."""
    in_channel: int = 3
    channel: int = 128
    n_res_block: int = 2
    n_res_channel: int = 32
    embed_dim: int = 64
    factor: int = 4
    """How many times finer the image is than the (bottom) codes, a power of 2; the top codes are 2 times coarser."""
    kernels: tuple[int, ...] = (4,)
    """Kernel sizes of the strided convolutions, one for each parallel branch of the encoder; even."""
    suffix: str = ""
    """How a single level's parts are named: `enc`, `quantize`, or with "_b" `enc_b`, `quantize_b`."""
    relu_inplace: bool = False
    """Whether residual blocks add ReLU(x) in place of x, as an in-place activation makes them; no checkpoint tells."""
    values: str = "pixels"
    """What the image's numbers are: see `ImageSpec`."""

    def __post_init__(self) -> None:
        small = {"in_channel": self.in_channel, "n_res_channel": self.n_res_channel, "embed_dim": self.embed_dim}
        for name, value in {**small, **{f"levels[{k}]": size for k, size in enumerate(self.levels)}}.items():
            if value < 1:
                raise ModelError(f"{name} is {value}; it must be 1 or more")
        if len(self.levels) not in (1, 2):
            raise ModelError(f"{len(self.levels)} levels of codes were asked for; 1 or 2 are supported")
        if self.in_channel not in (1, 3):
            raise ModelError(f"images have {self.in_channel} channels; 1 or 3 are supported")
        if self.channel < 2 or self.n_res_block < 0:
            raise ModelError(
                f"channel is {self.channel} and n_res_block {self.n_res_block}; 2 and 0 are the least that can be"
            )
        if self.factor < 2 or self.factor & (self.factor - 1):
            raise ModelError(f"factor is {self.factor}; it must be a power of 2, 2 or more")
        if any(kernel < 2 or kernel % 2 for kernel in self.kernels) or not self.kernels:
            raise ModelError(f"kernels are {list(self.kernels)}; they must be even, one at least")
        if any(size < 1 or size % self.coarsest for size in self.shape):
            raise ModelError(
                f"the image has {self.shape[0]}x{self.shape[1]} pixels, but this model needs multiples of "
                f"{self.coarsest}; choose another size (--shape)"
            )

    @property
    def two_level(self) -> bool:
        """Whether there are top codes besides the bottom ones."""
        return len(self.levels) == 2

    @property
    def coarsest(self) -> int:
        """How many times finer the image is than the coarsest codes."""
        return self.factor * (2 if self.two_level else 1)

    @property
    def image(self) -> ImageSpec:
        """The image."""
        return ImageSpec(self.in_channel, self.shape, self.values)

    @property
    def codes(self) -> tuple[CodesSpec, ...]:
        """The levels of codes in the order in which they are drawn."""
        names = ("top", "bottom") if self.two_level else ("codes",)
        factors = (self.coarsest, self.factor) if self.two_level else (self.factor,)
        return tuple(
            CodesSpec(name, (self.shape[0] // factor, self.shape[1] // factor), size)
            for name, factor, size in zip(names, factors, self.levels, strict=True)
        )
