"""What an original PixelSNAIL is built from, and the configurations that were published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pixelsnail_infer.errors import ModelError

__all__ = ["NAMED", "SnailConfig"]


@dataclass(frozen=True, slots=True)
class SnailConfig:
    """The sizes and choices of one network; the defaults are those that the public training script gives.

    The public model functions have other defaults (concat_elu, 5 residual blocks, 160 filters in some), which its
    training script never lets through.

    Raises ModelError when the values cannot make a network.
    """

    shape: tuple[int, int] = (32, 32)
    """(H, W), rows and columns of the image."""
    channels: Literal[1, 3] = 3
    """Colour channels of a pixel: red, green and blue, or one grey level."""
    attn_rep: int = 12
    """Blocks, each of `nr_resnet` gated residual blocks and one attention."""
    nr_resnet: int = 4
    nr_filters: int = 256
    key_width: int = 16
    """Width of keys and queries; 0 means nr_filters // 2."""
    value_width: int = 0
    """Width of the values; 0 means nr_filters // 2."""
    att_downsample: Literal[1, 2] = 1
    """2 takes the maximum of keys and of values over blocks of 2×2 positions."""
    convolution: Literal["down_right", "shift"] = "down_right"
    """2×2 convolutions that include the current position, or shifted quarters of the channels and a 1×1."""
    nonlinearity: Literal["concat_elu", "elu", "relu"] = "elu"
    nr_mix: int = 10
    """Logistics in the mixture."""
    condition: Literal["label", "vector"] | None = None
    """`label`: one class number for each image. `vector`: numbers for each image; soft classes if n_class is given."""
    n_class: int = 0
    """Classes that a label or a soft class vector chooses from; 0 for a vector that is not about classes."""
    condition_size: int = 0
    """Width of the vector `h` that every gated block projects; 0 means n_class."""
    embedding: bool = False
    """Whether an embedding [n_class, condition_size] makes `h` of the classes; otherwise `h` is the one-hot itself."""
    dropout: float = 0.5

    def __post_init__(self) -> None:
        height, width = self.shape
        counts = {"H": height, "W": width, "nr_filters": self.nr_filters, "nr_mix": self.nr_mix}
        for name, value in counts.items():
            if value < 1:
                raise ModelError(f"{name} is {value}; it must be 1 or more")
        for name in ("attn_rep", "nr_resnet", "key_width", "value_width", "n_class", "condition_size"):
            if getattr(self, name) < 0:
                raise ModelError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if not 0 <= self.dropout < 1:
            raise ModelError(f"dropout is {self.dropout}; it must be in [0, 1)")
        if self.channels not in (1, 3):
            raise ModelError(f"{self.channels} colour channels; an original PixelSNAIL has 3, or 1 for grey levels")
        if self.nonlinearity not in ("concat_elu", "elu", "relu"):
            raise ModelError(f"nonlinearity is {self.nonlinearity!r}; it must be 'concat_elu', 'elu' or 'relu'")
        if self.attn_rep and (self.keys < 1 or self.values < 1):
            raise ModelError(
                f"{self.nr_filters} filters leave keys {self.keys} and values {self.values} wide; 1 is least"
            )
        self._check_pooling()
        self._check_convolution()
        self._check_condition()

    def _check_pooling(self) -> None:
        if self.att_downsample not in (1, 2):
            raise ModelError(f"att_downsample is {self.att_downsample}; keys are pooled over 1×1 or 2×2 positions")
        if self.att_downsample == 2 and any(size % 2 for size in self.shape):
            raise ModelError(f"{self.shape[0]}x{self.shape[1]} pixels are no multiple of the 2×2 blocks of the keys")

    def _check_convolution(self) -> None:
        if self.convolution not in ("down_right", "shift"):
            raise ModelError(f"convolution is {self.convolution!r}; it must be 'down_right' or 'shift'")
        wide = self.nr_filters * self.widening
        if self.convolution == "shift" and (self.channels != 3 or wide % 4):
            raise ModelError(
                f"shifted quarters need 3 colour channels (and the channel of ones) and features in fours, "
                f"not {self.channels} and {wide}"
            )

    def _check_condition(self) -> None:
        if self.condition not in (None, "label", "vector"):
            raise ModelError(f"condition is {self.condition!r}; it must be None, 'label' or 'vector'")
        if self.condition == "label" and not self.n_class:
            raise ModelError("a label condition needs n_class, the number of classes")
        if self.condition and not self.hidden:
            raise ModelError("a vector condition needs condition_size, its width, or n_class")
        if self.embedding and not self.n_class:
            raise ModelError("an embedding of the classes needs n_class, the number of classes")
        if self.condition and self.n_class and not self.embedding and self.hidden != self.n_class:
            raise ModelError(
                f"without an embedding the condition is as wide as there are classes ({self.n_class}), "
                f"not {self.condition_size}"
            )

    @property
    def keys(self) -> int:
        """Channels of keys and queries."""
        return self.key_width or self.nr_filters // 2

    @property
    def values(self) -> int:
        """Channels of the values."""
        return self.value_width or self.nr_filters // 2

    @property
    def hidden(self) -> int:
        """Width of `h`; 0 without a condition."""
        return 0 if self.condition is None else self.condition_size or self.n_class

    @property
    def widening(self) -> int:
        """How many channels the nonlinearity makes of one."""
        return 2 if self.nonlinearity == "concat_elu" else 1

    @property
    def n_params(self) -> int:
        """Channels of the output: with three colours a logit and, for each, mean, log-scale and coefficient, for every
        logistic; with one colour a logit, a mean and a log-scale."""
        return (10 if self.channels == 3 else 3) * self.nr_mix

    @property
    def condition_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each condition without its batch axis, by the name that `Snail.forward` takes it under."""
        if self.condition == "label":
            return {"label": ()}
        if self.condition == "vector":
            return {"h": (self.n_class or self.hidden,)}
        return {}


NAMED: dict[str, SnailConfig] = {
    "h12_noup_smallkey": SnailConfig(attn_rep=12),
    "h8_noup_smallkey": SnailConfig(attn_rep=8),
    "h12_pool2_smallkey": SnailConfig(attn_rep=12, att_downsample=2),
    "h6_shift": SnailConfig(attn_rep=6, key_width=0, convolution="shift"),
}
"""The published networks at full size, on 32×32 RGB; `dataclasses.replace` makes smaller ones of them."""
