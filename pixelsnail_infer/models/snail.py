"""The original PixelSNAIL in its ordinary full-image form: pixels in, a mixture's parameters for every position out.

After Chen et al. 2018, "PixelSNAIL: An Improved Autoregressive Generative Model", and its public code,
neocxi/pixelsnail-public (`pixel_cnn_pp/model.py`). Legend of shapes: `snail_layers.py`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.models.layers import shift_down, shift_right
from pixelsnail_infer.models.snail_config import SnailConfig
from pixelsnail_infer.models.snail_layers import Conv, GatedResnet, Normed, ShiftNin, causal_attention, earlier

__all__ = ["Snail", "initialise", "original_names", "position_channels"]


def position_channels(height: int, width: int, channels: int) -> Tensor:
    """float32 [1, 2*channels, H, W]: (index - size/2) / size, for rows `channels` times, then for columns."""
    rows = ((torch.arange(height).float() - height / 2) / height).view(1, 1, height, 1)
    columns = ((torch.arange(width).float() - width / 2) / width).view(1, 1, 1, width)
    shape = (1, channels, height, width)
    return torch.cat([rows.expand(shape), columns.expand(shape)], dim=1)


class SnailBlock(nn.Module):
    """Gated residual blocks, then attention whose keys and values see the pixels themselves."""

    def __init__(self, config: SnailConfig) -> None:
        super().__init__()
        filters, seen = config.nr_filters, 2 * config.channels
        common: dict[str, Any] = {
            "hidden": config.hidden,
            "activation": config.nonlinearity,
            "dropout": config.dropout,
        }
        self.split = (config.keys, config.values)
        self.downsample = config.att_downsample
        self.resnets = nn.ModuleList(
            GatedResnet(filters, config.convolution, **common) for _ in range(config.nr_resnet)
        )
        self.content_resnet = GatedResnet(config.channels + filters + seen, "nin", **common)
        self.content = Conv(config.channels + filters + seen, config.keys + config.values)
        self.query_resnet = GatedResnet(filters + seen, "nin", **common)
        self.query = Conv(filters + seen, config.keys)
        self.out = GatedResnet(filters, "nin", auxiliary_channel=config.values, **common)

    def forward(self, x: Tensor, pixels: Tensor, background: Tensor, mask: Tensor, h: Tensor | None) -> Tensor:
        """x [B, F, H, W], pixels [B, C, H, W], background [B, 2C, H, W], mask [P, Q], h [B, K] -> [B, F, H, W]."""
        for resnet in self.resnets:
            x = resnet(x, h=h)
        raw = self.content(self.content_resnet(torch.cat([pixels, x, background], dim=1), h=h))
        key, value = raw.split(self.split, dim=1)
        query = self.query(self.query_resnet(torch.cat([x, background], dim=1), h=h))
        if self.downsample > 1:
            key, value = F.max_pool2d(key, self.downsample), F.max_pool2d(value, self.downsample)
        out: Tensor = self.out(x, auxiliary=causal_attention(query, key, value, mask), h=h)
        return out


class Snail(nn.Module):
    """The network that `config` describes. Its modules stand in the order in which the original makes its variables.

    In training mode dropout is active and everything is differentiable. Thread-safe for concurrent eval-mode forwards:
    nothing is written on the module.
    """

    background: Tensor

    def __init__(self, config: SnailConfig) -> None:
        super().__init__()
        self.config = config
        filters, inputs = config.nr_filters, config.channels + 1
        if config.condition and config.embedding:
            self.embedding = nn.Embedding(config.n_class, config.hidden)
        if config.convolution == "shift":
            self.first = ShiftNin(inputs, filters)
        else:
            self.above = Conv(inputs, filters, (1, 3), pad="down")
            self.left = Conv(inputs, filters, (2, 1))
        self.blocks = nn.ModuleList(SnailBlock(config) for _ in range(config.attn_rep))
        self.out = Conv(filters, config.n_params)
        self.register_buffer("background", position_channels(*config.shape, config.channels), persistent=False)

    def forward(self, pixels: Tensor, **conditions: Tensor) -> Tensor:
        """The mixture's parameters at every position given all earlier pixels.

        Takes pixels float [B, C, H, W] in [-1, 1], and the condition by its name: `label` int64 [B], or `h` float
        [B, K] (soft classes [B, n_class] where there are classes). Gives [B, n_params, H, W], unconstrained, laid out
        as `mixture.py` says. Pixels may be the first rows of the image only, [B, C, rows, W]: causality makes their
        parameters the same.

        Raises:
            RequestError: a shape is not the one that the model was trained for, or a condition is missing or unknown.
        """
        self._check(pixels, conditions)
        batch, _, rows, width = pixels.shape
        padded = F.pad(pixels, [0, 0, 0, 0, 0, 1], value=1.0)  # [B, C+1, H, W], the last 1 where there is an image
        if self.config.convolution == "shift":
            out: Tensor = self.first(padded)
        else:
            out = shift_down(self.above(padded)) + shift_right(self.left(padded))
        background = self.background[:, :, :rows].expand(batch, -1, -1, -1)
        mask = earlier(rows, width, self.config.att_downsample, self.background)  # [P, Q]
        h = self._hidden(conditions)
        for block in self.blocks:
            out = block(out, pixels, background, mask, h)
        out = self.out(F.elu(out))
        return out

    def _hidden(self, conditions: dict[str, Tensor]) -> Tensor | None:
        """The vector [B, K] that every gated block projects."""
        config = self.config
        if config.condition is None:
            return None
        if config.condition == "label":
            h = F.one_hot(conditions["label"], config.n_class).to(self.background.dtype)  # [B, n_class]
        else:
            h = conditions["h"]
        return h @ self.embedding.weight if config.embedding else h

    def _check(self, pixels: Tensor, conditions: dict[str, Tensor]) -> None:
        config = self.config
        given = {"pixels": pixels, **conditions}
        expected: dict[str, tuple[int, ...]] = {
            "pixels": (config.channels, *config.shape),
            **config.condition_shapes,
        }
        if given.keys() != expected.keys():
            raise RequestError(
                f"the model takes {', '.join(expected)}, but it was given {', '.join(given)}; "
                "pass every condition by its name"
            )
        if pixels.ndim == 4 and 0 < pixels.shape[2] < config.shape[0] and not pixels.shape[2] % config.att_downsample:
            expected["pixels"] = (config.channels, pixels.shape[2], config.shape[1])
        for name, shape in expected.items():
            if given[name].shape != (pixels.shape[0], *shape):
                raise RequestError(
                    f"{name} has shape {list(given[name].shape)}, but this model was trained for "
                    f"{['B', *shape]} only (its coordinates are part of it), with one B for all inputs"
                )
            if name == "label" and given[name].dtype != torch.int64:
                raise RequestError(f"label has dtype {given[name].dtype}; it must be torch.int64")
            if name != "label" and not given[name].is_floating_point():
                raise RequestError(f"{name} has dtype {given[name].dtype}; it must be floating-point")


@torch.no_grad()
def initialise(model: nn.Module, pixels: Tensor, **conditions: Tensor) -> None:
    """Set `g` and `b` of every weight-normed layer from one batch, in the order of the forward pass, in place.

    Afterwards every layer's result over that batch has mean 0 and deviation 1 (0.1 before a gate), as in Salimans &
    Kingma 2016, section 3. With dropout as the module's mode says. Raises what `forward` raises.
    """

    def prepare(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(module, Normed):
            module.initialise(inputs[0])

    hooks = [m.register_forward_pre_hook(prepare) for m in model.modules() if isinstance(m, Normed)]
    try:
        model(pixels, **conditions)
    finally:
        for hook in hooks:
            hook.remove()


def original_names(model: nn.Module) -> dict[str, str]:
    """For each parameter that the original has, its name there, in the original's order.

    "conv2d_0/V", "dense_3/g", "conditional_weights_1/hw" and so on; the original puts "model/" before them. Its `V` is
    [h, w, in, out] for conv2d, [h, w, out, in] for deconv2d and [in, out] for dense, where ours is [out, in, h, w], or
    [in, out, h, w] for deconv2d; `g`, `b` and `hw` are the same. The model's modules must stand in the original's
    order.
    """
    counts: Counter[str] = Counter()
    names: dict[str, str] = {}
    for path, module in model.named_modules():
        if isinstance(module, Normed):
            scope = f"{module.kind}_{counts[module.kind]}"
            names |= {f"{path}.{part}": f"{scope}/{part}" for part in ("V", "g", "b")}
            counts[module.kind] += 1
        elif isinstance(module, GatedResnet) and module.hw is not None:
            scope = f"conditional_weights_{counts['conditional_weights']}"
            names[f"{path}.hw"] = f"{scope}/hw"
            counts["conditional_weights"] += 1
    return names
