"""PixelCNN++ in its ordinary full-image form: pixels in, a mixture's parameters for every position out.

After Salimans et al. 2017, "PixelCNN++", and its public code, openai/pixel-cnn (`pixel_cnn_pp/model.py`). Two streams,
`u` of the rows above and `ul` of these and the pixels to the left, go down to a half and a quarter of the image's size
and up again. Legend of shapes: `snail_layers.py`; sizes are those of the layer's own resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.errors import ModelError, RequestError
from pixelsnail_infer.models.layers import shift_down, shift_right
from pixelsnail_infer.models.snail_layers import Conv, GatedResnet, Normed

__all__ = ["STAGES", "Double", "Halve", "Pair", "PixelCNNpp", "PixelCNNppConfig"]

STAGES = 3
"""Resolutions: the image's, a half and a quarter of it."""


@dataclass(frozen=True, slots=True)
class PixelCNNppConfig:
    """The sizes and choices of one network; the defaults are those of the public training script.

    Raises ModelError when the values cannot make a network.
    """

    shape: tuple[int, int] = (32, 32)
    """(H, W), rows and columns of the image, multiples of 4. No file tells them; the network itself takes any."""
    channels: Literal[1, 3] = 3
    """Colour channels of a pixel: red, green and blue, or one grey level."""
    nr_resnet: int = 5
    """Gated residual blocks in each stream of each stage on the way down; one more in the last two on the way up."""
    nr_filters: int = 160
    nr_logistic_mix: int = 10
    """Logistics in the mixture."""
    resnet_nonlinearity: Literal["concat_elu", "elu", "relu"] = "concat_elu"
    condition: Literal["label", "vector"] | None = None
    """`label`: one class number for each image. `vector`: a weight for every class, so that classes can be mixed."""
    n_label: int = 0
    """Classes; 0 without a condition."""
    dropout: float = 0.5

    def __post_init__(self) -> None:
        counts = {"nr_filters": self.nr_filters, "nr_logistic_mix": self.nr_logistic_mix}
        for name, value in {"H": self.shape[0], "W": self.shape[1], **counts}.items():
            if value < 1:
                raise ModelError(f"{name} is {value}; it must be 1 or more")
        factor = 2 ** (STAGES - 1)
        if any(size % factor for size in self.shape):
            raise ModelError(
                f"{self.shape[0]}x{self.shape[1]} pixels; a PixelCNN++ halves its image twice, so both sizes must be "
                f"multiples of {factor}"
            )
        for name in ("nr_resnet", "n_label"):
            if getattr(self, name) < 0:
                raise ModelError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if self.channels not in (1, 3):
            raise ModelError(f"{self.channels} colour channels; a PixelCNN++ has 3, or 1 for grey levels")
        if self.resnet_nonlinearity not in ("concat_elu", "elu", "relu"):
            raise ModelError(
                f"resnet_nonlinearity is {self.resnet_nonlinearity!r}; it must be 'concat_elu', 'elu' or 'relu'"
            )
        if self.condition not in (None, "label", "vector"):
            raise ModelError(f"condition is {self.condition!r}; it must be None, 'label' or 'vector'")
        if bool(self.condition) != bool(self.n_label):
            raise ModelError(f"condition is {self.condition!r} with {self.n_label} classes; give both or none")
        if not 0 <= self.dropout < 1:
            raise ModelError(f"dropout is {self.dropout}; it must be in [0, 1)")

    @property
    def n_params(self) -> int:
        """Channels of the output: 10 for each logistic with three colours, 3 with one."""
        return (10 if self.channels == 3 else 3) * self.nr_logistic_mix

    @property
    def condition_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of the condition without its batch axis, by the name that `PixelCNNpp.forward` takes it under."""
        if self.condition == "label":
            return {"label": ()}
        return {"h": (self.n_label,)} if self.condition == "vector" else {}


class Deconv(Normed):
    """A weight-normed transposed convolution of stride 2 that looks up and sideways only.

    [B, in, H, W] -> [B, out, 2H, 2W]. `pad` names the border that is cut off again: "down" the bottom and both sides,
    "down_right" the bottom and the right. `V` is [in, out, h, w].
    """

    def __init__(
        self, in_channel: int, out_channel: int, kernel: tuple[int, int], *, pad: Literal["down", "down_right"]
    ) -> None:
        super().__init__((in_channel, out_channel, *kernel), "deconv2d", axis=1)
        height, width = kernel
        self.bottom = height - 1
        self.left, self.right = (0, width - 1) if pad == "down_right" else ((width - 1) // 2, (width - 1) // 2)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The transposed convolution, and the border cut off."""
        out = F.conv_transpose2d(x, weight, bias, stride=2, output_padding=1)  # [B, out, 2H + bottom, ...]
        return out[:, :, : out.shape[2] - self.bottom, self.left : out.shape[3] - self.right]


class Halve(nn.Module):
    """Both streams at half the size."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.u = Conv(filters, filters, (2, 3), pad="down", stride=2)
        self.ul = Conv(filters, filters, (2, 2), stride=2)

    def forward(self, u: Tensor, ul: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """u and ul [B, F, H, W] -> [B, F, H/2, W/2] each; `h` is not for it."""
        return self.u(u), self.ul(ul)


class Double(nn.Module):
    """Both streams at twice the size."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.u = Deconv(filters, filters, (2, 3), pad="down")
        self.ul = Deconv(filters, filters, (2, 2), pad="down_right")

    def forward(self, u: Tensor, ul: Tensor) -> tuple[Tensor, Tensor]:
        """u and ul [B, F, H, W] -> [B, F, 2H, 2W] each."""
        return self.u(u), self.ul(ul)


class Pair(nn.Module):
    """A gated residual block in each stream; `ul` sees the new `u`, and with `skips` both see what was kept."""

    def __init__(self, config: PixelCNNppConfig, *, skips: bool) -> None:
        super().__init__()
        filters = config.nr_filters
        common: dict[str, Any] = {
            "hidden": config.n_label,
            "activation": config.resnet_nonlinearity,
            "dropout": config.dropout,
        }
        self.u = GatedResnet(filters, "down", auxiliary_channel=filters if skips else 0, **common)
        self.ul = GatedResnet(filters, "down_right", auxiliary_channel=filters * (2 if skips else 1), **common)

    def forward(
        self, u: Tensor, ul: Tensor, h: Tensor | None, kept: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """u, ul and both of `kept` [B, F, H, W], h [B, K] -> u and ul."""
        if kept is None:
            u = self.u(u, h=h)
            return u, self.ul(ul, auxiliary=u, h=h)
        u = self.u(u, auxiliary=kept[0], h=h)
        return u, self.ul(ul, auxiliary=torch.cat([u, kept[1]], dim=1), h=h)


class PixelCNNpp(nn.Module):
    """The network that `config` describes. Its modules stand in the order in which the original makes its variables.

    In training mode dropout is active and everything is differentiable. Thread-safe for concurrent eval-mode forwards.
    """

    def __init__(self, config: PixelCNNppConfig) -> None:
        super().__init__()
        self.config = config
        filters, inputs = config.nr_filters, config.channels + 1
        self.u_first = Conv(inputs, filters, (2, 3), pad="down")
        self.ul_above = Conv(inputs, filters, (1, 3), pad="down")
        self.ul_left = Conv(inputs, filters, (2, 1))
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for stage in range(STAGES):
            self.down.extend([Halve(filters)] if stage else [])
            self.down.extend(Pair(config, skips=False) for _ in range(config.nr_resnet))
        for stage in range(STAGES):
            self.up.extend([Double(filters)] if stage else [])
            self.up.extend(Pair(config, skips=True) for _ in range(config.nr_resnet + (stage > 0)))
        self.out = Conv(filters, config.n_params)

    def forward(self, pixels: Tensor, **conditions: Tensor) -> Tensor:
        """The mixture's parameters at every position given all earlier pixels.

        Takes pixels float [B, C, H, W] in [-1, 1], and the condition by its name: `label` int64 [B], or `h` float
        [B, n_label]. Gives [B, n_params, H, W], unconstrained, laid out as `mixture.py` says. Pixels may be the first
        rows of the image only, if these are a multiple of 4.

        Raises:
            RequestError: a shape is not the configured one, or a condition is missing or unknown.
        """
        self._check(pixels, conditions)
        x = F.pad(pixels, [0, 0, 0, 0, 0, 1], value=1.0)  # [B, C+1, H, W], the last 1 where there is an image
        h = conditions.get("h")
        if self.config.condition == "label":
            h = F.one_hot(conditions["label"], self.config.n_label).to(self.out.b.dtype)
        u = shift_down(self.u_first(x))
        ul = shift_down(self.ul_above(x)) + shift_right(self.ul_left(x))
        kept = [(u, ul)]
        for layer in self.down:
            kept.append(layer(*kept[-1], h))
        u, ul = kept.pop()
        for layer in self.up:
            u, ul = layer(u, ul) if isinstance(layer, Double) else layer(u, ul, h, kept.pop())
        out: Tensor = self.out(F.elu(ul))
        return out

    def _check(self, pixels: Tensor, conditions: dict[str, Tensor]) -> None:
        config = self.config
        given = {"pixels": pixels, **conditions}
        expected: dict[str, tuple[int, ...]] = {"pixels": (config.channels, *config.shape), **config.condition_shapes}
        if given.keys() != expected.keys():
            raise RequestError(
                f"the model takes {', '.join(expected)}, but it was given {', '.join(given)}; "
                "pass every condition by its name"
            )
        factor = 2 ** (STAGES - 1)
        if pixels.ndim == 4 and 0 < pixels.shape[2] < config.shape[0] and not pixels.shape[2] % factor:
            expected["pixels"] = (config.channels, pixels.shape[2], config.shape[1])
        for name, shape in expected.items():
            if given[name].shape != (pixels.shape[0], *shape):
                raise RequestError(
                    f"{name} has shape {list(given[name].shape)}, but this model takes {['B', *shape]} only, with one "
                    "B for all inputs"
                )
            if name == "label" and given[name].dtype != torch.int64:
                raise RequestError(f"label has dtype {given[name].dtype}; it must be torch.int64")
            if name != "label" and not given[name].is_floating_point():
                raise RequestError(f"{name} has dtype {given[name].dtype}; it must be floating-point")
