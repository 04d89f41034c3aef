"""What a network of the VQ-prior family is built from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pixelsnail_infer.errors import ModelError

__all__ = ["PriorConfig"]


@dataclass(frozen=True, slots=True)
class PriorConfig:
    """The sizes and choices of one prior; the defaults are those of the public code.

    Raises ModelError when the values cannot make a network.
    """

    shape: tuple[int, int]
    """(H, W), rows and columns of the code grid."""
    levels: int
    """Size of the code book."""
    channel: int = 256
    kernel_size: int = 5
    """Odd, 3 or more: an even kernel fails in the public code too."""
    n_block: int = 4
    n_res_block: int = 4
    """Gated residual blocks in each block."""
    res_channel: int = 256
    attention: bool = True
    n_head: int = 8
    """Attention heads; no checkpoint stores it. Divides channel // 2."""
    n_out_res_block: int = 0
    condition: Literal["label", "codes"] | None = None
    n_label: int = 0
    label_hidden: tuple[int, ...] = ()
    """Widths between the linear layers that make the condition map of a label; the public code has three of 2048."""
    cond_res_block: int = 0
    """Gated residual blocks after the first convolution over condition codes."""
    cond_res_channel: int = 0
    cond_res_kernel: int = 3
    upsample: int = 2
    """How many times finer the code grid is than the condition grid; no checkpoint stores it."""
    elu_inplace: bool = False
    """Trained before July 2020, when residuals added ELU(x) instead of x; no checkpoint tells."""
    dropout: float = 0.1

    def __post_init__(self) -> None:
        height, width = self.shape
        small = {"H": height, "W": width, "levels": self.levels, "channel": self.channel, "n_head": self.n_head}
        for name, value in {**small, "res_channel": self.res_channel, "upsample": self.upsample}.items():
            if value < 1:
                raise ModelError(f"{name} is {value}; it must be 1 or more")
        for name in ("n_block", "n_res_block", "n_out_res_block", "cond_res_block"):
            if getattr(self, name) < 0:
                raise ModelError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if self.kernel_size < 3 or self.kernel_size % 2 == 0:
            raise ModelError(f"kernel_size is {self.kernel_size}; it must be odd and 3 or more, as in the public code")
        if self.attention and (self.channel < 2 or (self.channel // 2) % self.n_head):
            raise ModelError(
                f"{self.n_head} heads do not divide the {self.channel // 2} channels of the attention; "
                "choose another number of heads (--n-head)"
            )
        if not 0 <= self.dropout < 1:
            raise ModelError(f"dropout is {self.dropout}; it must be in [0, 1)")
        self._check_condition()

    def _check_condition(self) -> None:
        if self.condition not in (None, "label", "codes"):
            raise ModelError(f"condition is {self.condition!r}; it must be None, 'label' or 'codes'")
        if self.condition == "label" and (self.n_label < 1 or any(width < 1 for width in self.label_hidden)):
            raise ModelError(
                f"a label condition needs n_label and label_hidden of 1 or more, not {self.n_label} labels"
            )
        if self.condition != "codes":
            return
        if self.cond_res_channel < 1 or self.cond_res_kernel < 1 or self.cond_res_kernel % 2 == 0:
            raise ModelError(
                f"a code condition needs cond_res_channel of 1 or more and an odd cond_res_kernel, "
                f"not {self.cond_res_channel} and {self.cond_res_kernel}"
            )
        if any(size % self.upsample for size in self.shape):
            raise ModelError(
                f"{self.shape[0]}x{self.shape[1]} codes are no multiple of a condition grid upsampled "
                f"{self.upsample} times; choose another factor (--upsample)"
            )

    @property
    def condition_channel(self) -> int:
        """Channels of the condition map that every residual block takes; 0 without a condition."""
        return {None: 0, "label": 1, "codes": self.cond_res_channel}[self.condition]

    @property
    def condition_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each condition without its batch axis, by the name that `Prior.forward` takes it under."""
        if self.condition == "label":
            return {"label": ()}
        if self.condition == "codes":
            return {"condition": (self.shape[0] // self.upsample, self.shape[1] // self.upsample)}
        return {}
