"""The PixelSNAIL of kamenbliznashki/pixel_models in its full-image form: pixels in, a mixture's parameters out.

Like the original (`snail.py`), but: concat_elu; coordinates over 2 instead of over the size; keys and values that see
the *block's input* instead of the pixels; heads; a softmax whose first row, where all is masked, averages over all
positions. That row is a leak: through it every later pixel moves the first prediction, and no exact step exists.

Parameter names are those of the public files. Legend of shapes: `snail_layers.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.errors import ModelError, RequestError
from pixelsnail_infer.models.layers import shift_down, shift_right, weight_norm
from pixelsnail_infer.models.snail_layers import concat_elu, earlier

__all__ = ["Kamen", "KamenConfig"]

HIDDEN_LOGIT = -1e10  # what the public code fills masked attention logits with


@dataclass(frozen=True, slots=True)
class KamenConfig:
    """The sizes and choices of one network; the defaults are those of the public training script.

    Raises ModelError when the values cannot make a network.
    """

    shape: tuple[int, int] = (32, 32)
    """(H, W), rows and columns of the image."""
    channels: Literal[1, 3] = 3
    n_channels: int = 256
    """Features."""
    n_res_layers: int = 5
    attn_n_layers: int = 12
    attn_nh: int = 1
    """Attention heads; no checkpoint stores it."""
    attn_dq: int = 16
    attn_dv: int = 128
    n_logistic_mix: int = 10
    n_cond_classes: int = 0
    """Classes; 0 without a condition."""
    condition: Literal["label", "vector"] | None = None
    """`label`: one class number for each image. `vector`: a weight for every class, so that classes can be mixed."""
    n_bits: int = 8
    """Bits of a colour value, so that 2**n_bits lie in [-1, 1]; no checkpoint stores it, and the script says 4."""
    approximate_first_position: bool = False
    """Position 0 attends to nothing, as if the leak were mended; otherwise it averages over everything."""
    drop_rate: float = 0.5

    def __post_init__(self) -> None:
        height, width = self.shape
        counts = {"H": height, "W": width, "n_channels": self.n_channels, "n_logistic_mix": self.n_logistic_mix}
        for name, value in {**counts, "attn_nh": self.attn_nh, "n_bits": self.n_bits}.items():
            if value < 1:
                raise ModelError(f"{name} is {value}; it must be 1 or more")
        for name in ("n_res_layers", "attn_n_layers", "n_cond_classes"):
            if getattr(self, name) < 0:
                raise ModelError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if self.channels not in (1, 3):
            raise ModelError(f"{self.channels} colour channels; this family has 1 or 3")
        for name in ("attn_dq", "attn_dv"):
            if getattr(self, name) < 1 or getattr(self, name) % self.attn_nh:
                raise ModelError(
                    f"{self.attn_nh} heads do not divide {name}, {getattr(self, name)}; give another number (--n-head)"
                )
        if self.condition not in (None, "label", "vector"):
            raise ModelError(f"condition is {self.condition!r}; it must be None, 'label' or 'vector'")
        if bool(self.condition) != bool(self.n_cond_classes):
            raise ModelError(f"condition is {self.condition!r} with {self.n_cond_classes} classes; give both or none")
        if not 0 <= self.drop_rate < 1:
            raise ModelError(f"drop_rate is {self.drop_rate}; it must be in [0, 1)")

    @property
    def nr_mix(self) -> int:
        """The number of logistics, under the name that the original has for it."""
        return self.n_logistic_mix

    @property
    def n_class(self) -> int:
        """The number of classes, under the name that the original has for it."""
        return self.n_cond_classes

    @property
    def n_params(self) -> int:
        """Channels of the output: 10 for each logistic with three colours, 3 with one."""
        return (10 if self.channels == 3 else 3) * self.n_logistic_mix

    @property
    def condition_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each condition without its batch axis, by the name that `Kamen.forward` takes it under."""
        if self.condition == "label":
            return {"label": ()}
        return {"h": (self.n_cond_classes,)} if self.condition == "vector" else {}


class Conv(nn.Module):
    """A weight-normed convolution that pads the top and the left (or, with `wide`, both sides)."""

    def __init__(
        self, in_channel: int, out_channel: int, kernel: tuple[int, int] = (1, 1), *, wide: bool = False
    ) -> None:
        super().__init__()
        height, width = kernel
        self.pad = [(width - 1) // 2, (width - 1) // 2, height - 1, 0] if wide else [width - 1, 0, height - 1, 0]
        like = nn.Conv2d(in_channel, out_channel, kernel)  # for PyTorch's usual start
        assert like.bias is not None
        weight = like.weight.detach()
        self.bias = like.bias
        self.weight_g = nn.Parameter(weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1))
        self.weight_v = nn.Parameter(weight.clone())

    def forward(self, x: Tensor, order: Tensor | None = None) -> Tensor:
        """[B, in, H, W] -> [B, out, H, W], the output channels taken in `order` if given."""
        weight, bias = weight_norm(self.weight_v, self.weight_g), self.bias
        if order is not None:
            weight, bias = weight[order], bias[order]
        return F.conv2d(F.pad(x, self.pad) if any(self.pad) else x, weight, bias)


class Gated(nn.Module):
    """The gated residual layer: concat_elu, conv, (+ 1×1 of the auxiliary), the same again to 2C, (+ class), gate."""

    def __init__(
        self, channel: int, kernel: tuple[int, int], config: KamenConfig, *, auxiliary_channel: int = 0
    ) -> None:
        super().__init__()
        self.c1 = Conv(2 * channel, channel, kernel)
        self.c1c = Conv(2 * auxiliary_channel, channel) if auxiliary_channel else None
        self.dropout = nn.Dropout(config.drop_rate)
        self.c2 = Conv(2 * channel, 2 * channel, kernel)
        self.proj_h = nn.Linear(config.n_cond_classes, 2 * channel) if config.n_cond_classes else None

    def forward(self, x: Tensor, auxiliary: Tensor | None = None, h: Tensor | None = None) -> Tensor:
        """x [B, C, H, W], auxiliary [B, A, H, W], h [B, classes] -> [B, C, H, W]."""
        out = self.c1(concat_elu(x))
        if self.c1c is not None and auxiliary is not None:
            out = out + self.c1c(concat_elu(auxiliary))
        out = self.c2(self.dropout(concat_elu(out)))
        if self.proj_h is not None and h is not None:
            out = out + self.proj_h(h)[:, :, None, None]
        value, gate = out.chunk(2, dim=1)
        return x + value * torch.sigmoid(gate)


class Block(nn.Module):
    """Gated residual layers, then attention. Of the class projections only those of the former are ever used."""

    def __init__(self, config: KamenConfig) -> None:
        super().__init__()
        channel, seen = config.n_channels, 2 * config.channels
        self.config = config
        self.input_gated_resnet = nn.ModuleList(Gated(channel, (2, 2), config) for _ in range(config.n_res_layers))
        keys = 2 * channel + seen
        self.in_proj_kv = nn.Sequential(Gated(keys, (1, 1), config), Conv(keys, config.attn_dq + config.attn_dv))
        self.in_proj_q = nn.Sequential(Gated(channel + seen, (1, 1), config), Conv(channel + seen, config.attn_dq))
        self.out_proj = Gated(channel, (1, 1), config, auxiliary_channel=config.attn_dv)

    def forward(self, x: Tensor, background: Tensor, mask: Tensor, h: Tensor | None) -> Tensor:
        """x [B, F, H, W], background [B, 2C, H, W], mask [P, P], h [B, classes] -> [B, F, H, W]."""
        out = x
        for layer in self.input_gated_resnet:
            out = layer(out, h=h)
        key, value = self.in_proj_kv(torch.cat([x, out, background], dim=1)).split(
            [self.config.attn_dq, self.config.attn_dv], dim=1
        )
        query = self.in_proj_q(torch.cat([out, background], dim=1))
        result: Tensor = self.out_proj(out, auxiliary=self._attend(query, key, value, mask))
        return result

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """query and key [B, dq, H, W], value [B, dv, H, W] -> [B, dv, H, W]."""
        batch, _, rows, columns = query.shape
        heads = self.config.attn_nh
        q, k, v = (x.reshape(batch, heads, -1, rows * columns) for x in (query, key, value))  # [B, K, D, P]
        logits = torch.matmul((q * q.shape[2] ** -0.5).transpose(2, 3), k)  # [B, K, P, P]
        weights = F.softmax(logits.masked_fill(mask == 0, HIDDEN_LOGIT), dim=-1)
        if self.config.approximate_first_position:
            weights = weights * mask.amax(dim=1, keepdim=True)  # 0 for position 0, 1 for the others
        mixed = torch.matmul(weights, v.transpose(2, 3))  # [B, K, P, D]
        return mixed.transpose(2, 3).reshape(batch, -1, rows, columns)


class Kamen(nn.Module):
    """The network that `config` describes; parameters are named, and stand in the order, as in the public files.

    In training mode dropout is active and everything is differentiable. Thread-safe for concurrent eval-mode forwards.
    """

    background: Tensor

    def __init__(self, config: KamenConfig) -> None:
        super().__init__()
        self.config = config
        colours, (height, width) = config.channels, config.shape
        rows = ((torch.arange(height).float() - height / 2) / 2).view(1, 1, height, 1)
        columns = ((torch.arange(width).float() - width / 2) / 2).view(1, 1, 1, width)
        shape = (1, colours, height, width)
        self.register_buffer("background", torch.cat([rows.expand(shape), columns.expand(shape)], dim=1))
        self.ul_input_d = Conv(colours + 1, config.n_channels, (1, 3), wide=True)
        self.ul_input_dr = Conv(colours + 1, config.n_channels, (2, 1))
        self.ul_modules = nn.ModuleList(Block(config) for _ in range(config.attn_n_layers))
        self.output_conv = Conv(config.n_channels, (3 * colours + 1) * config.n_logistic_mix)

    def forward(self, pixels: Tensor, **conditions: Tensor) -> Tensor:
        """The mixture's parameters at every position given all earlier pixels.

        Takes pixels float [B, C, H, W] in [-1, 1], and the condition by its name: `label` int64 [B], or `h` float
        [B, classes]. Gives [B, n_params, H, W] in the layout of `mixture.py`, which is not the public code's.

        Raises:
            RequestError: a shape is not the one that the model was trained for, or a condition is missing or unknown.
        """
        self._check(pixels, conditions)
        x = F.pad(pixels, [0, 0, 0, 0, 0, 1], value=1.0)  # [B, C+1, H, W]
        out = shift_down(self.ul_input_d(x)) + shift_right(self.ul_input_dr(x))
        mask = earlier(*self.config.shape, 1, self.background)  # [P, P]
        background = self.background.expand(pixels.shape[0], -1, -1, -1)
        h = conditions.get("h")
        if self.config.condition == "label":
            h = F.one_hot(conditions["label"], self.config.n_cond_classes).to(self.background.dtype)
        for block in self.ul_modules:
            out = block(out, background, mask, h)
        result: Tensor = self.output_conv(F.elu(out), self._order())
        return result

    def _order(self) -> Tensor:
        """Where each output channel of `mixture.py`'s layout stands in the public code's, int64 [n_params].

        There the means of all logistics come first, then the log-scales, then the coefficients, the colours innermost.
        With one colour the coefficients are never used, and are left out here.
        """
        mixtures, colours = self.config.n_logistic_mix, self.config.channels
        kinds = 3 if colours == 3 else 2
        theirs = torch.arange(3 * mixtures * colours).view(3, mixtures, colours) + mixtures
        return torch.cat([torch.arange(mixtures), theirs[:kinds].permute(2, 0, 1).flatten()])

    def _check(self, pixels: Tensor, conditions: dict[str, Tensor]) -> None:
        config = self.config
        given = {"pixels": pixels, **conditions}
        expected: dict[str, tuple[int, ...]] = {"pixels": (config.channels, *config.shape), **config.condition_shapes}
        if given.keys() != expected.keys():
            raise RequestError(
                f"the model takes {', '.join(expected)}, but it was given {', '.join(given)}; "
                "pass every condition by its name"
            )
        for name, shape in expected.items():
            if given[name].shape != (pixels.shape[0], *shape):
                raise RequestError(
                    f"{name} has shape {list(given[name].shape)}, but this model was trained for "
                    f"{['B', *shape]} only (its coordinates are part of it), with one B for all inputs"
                )
            if (given[name].dtype == torch.int64) != (name == "label") or not (
                name == "label" or given[name].is_floating_point()
            ):
                kind = "torch.int64" if name == "label" else "floating-point"
                raise RequestError(f"{name} has dtype {given[name].dtype}; it must be {kind}")
