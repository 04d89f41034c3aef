"""What a denoising U-Net is made of."""

from __future__ import annotations

from dataclasses import dataclass

from pixelsnail_infer.denoiser import DiffusionSpec
from pixelsnail_infer.errors import ModelError

__all__ = ["GROUPS", "UNetConfig"]

GROUPS = 32
"""Of every group norm."""


@dataclass(frozen=True, slots=True)
class UNetConfig:
    """A U-Net of improved-diffusion, and the diffusion that it was trained for.

    `width` is the number of channels at the first level, `mult` how many times that each level has; `attention` are the
    levels that attend, with `n_head` heads; on the way up with `n_head_upsample`, where it is given. `low_res` is the
    size of the small picture that a super-resolution model is given. With `learn_sigma` the network gives a second
    number for every pixel, from which its variance comes.
    """

    shape: tuple[int, int]
    channels: int
    width: int
    mult: tuple[int, ...]
    n_res_block: int
    attention: tuple[int, ...]
    n_head: int
    classes: int | None
    low_res: tuple[int, int] | None
    learn_sigma: bool
    scale_shift: bool
    diffusion: DiffusionSpec
    n_head_upsample: int | None = None

    def __post_init__(self) -> None:
        coarsest = 2 ** (len(self.mult) - 1)
        if self.channels not in (1, 3):
            raise ModelError(f"images of {self.channels} channels; expected 1 or 3.")
        if any(size % coarsest or size < 1 for size in self.shape):
            raise ModelError(f"images of {self.shape[0]}x{self.shape[1]}, which {len(self.mult) - 1} halvings do not "
                             f"divide; expected multiples of {coarsest} (--shape).")
        if self.mult[:1] != (1,):
            raise ModelError(f"levels of {', '.join(map(str, self.mult))} times the first width; the first must be 1.")
        if wrong := [width for width in self.widths if width % GROUPS or width < 1]:
            raise ModelError(f"a width of {wrong[0]}; group norms need multiples of {GROUPS}.")
        attending = {self.widths[-1], *(self.widths[level] for level in self.attention)}
        for heads, flag in ((self.n_head, "--n-head"), (self.heads_up, "--n-head-upsample")):
            if heads < 1 or (odd := [width for width in attending if width % heads]):
                width = odd[0] if heads > 0 else max(attending)
                raise ModelError(f"{heads} attention heads do not divide the width {width} ({flag}).")
        if (self.diffusion.variance == "learned-range") != self.learn_sigma:
            raise ModelError(f"the variance is {self.diffusion.variance}, but the network "
                             f"{'gives' if self.learn_sigma else 'does not give'} one.")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of every level."""
        return tuple(self.width * times for times in self.mult)

    @property
    def heads_up(self) -> int:
        """Attention heads on the way up."""
        return self.n_head if self.n_head_upsample is None else self.n_head_upsample

    @property
    def inputs(self) -> int:
        """Channels that the first convolution takes."""
        return self.channels * (1 if self.low_res is None else 2)

    @property
    def outputs(self) -> int:
        """Channels that the network gives."""
        return self.channels * (2 if self.learn_sigma else 1)
