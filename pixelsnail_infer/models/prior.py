"""The PixelSNAIL prior over VQ codes, in its ordinary full-image form: codes in, logits for every position out.

The VQ-prior family of rosinality/vq-vae-2-pytorch and its forks, and the label-conditioned audio priors of
liuxubo717/sound_generation, after Chen et al. 2018, "PixelSNAIL". Legend of shapes: `layers.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.models.config import PriorConfig
from pixelsnail_infer.models.layers import (
    CausalAttention,
    CausalConv2d,
    GatedResBlock,
    WNConv2d,
    shift_down,
    shift_right,
)

__all__ = ["Prior", "coordinates"]


def coordinates(height: int, width: int) -> Tensor:
    """The `background` buffer, float32 [1, 2, H, W]: (index - size/2) / size for rows, then for columns."""
    rows = (torch.arange(height).float() - height / 2) / height
    columns = (torch.arange(width).float() - width / 2) / width
    rows = rows.view(1, 1, height, 1).expand(1, 1, height, width)
    columns = columns.view(1, 1, 1, width).expand(1, 1, height, width)
    return torch.cat([rows, columns], dim=1)


class PixelBlock(nn.Module):
    """Causal gated residual blocks, then attention over everything earlier (or a 1×1 convolution instead)."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        channel, dropout, inplace = config.channel, config.dropout, config.elu_inplace
        self.resblocks = nn.ModuleList(
            GatedResBlock(
                channel,
                config.res_channel,
                config.kernel_size,
                causal=True,
                condition_channel=config.condition_channel,
                dropout=dropout,
                elu_inplace=inplace,
            )
            for _ in range(config.n_res_block)
        )
        self.attention = config.attention
        # An in-place ELU in the first residual block has overwritten the block's input by the time the keys read it.
        self.overwrites_input = inplace and config.n_res_block > 0
        if not config.attention:
            self.out = WNConv2d(channel + 2, channel, 1)
            return
        query_channel, key_channel = channel + 2, channel * 2 + 2
        self.key_resblock = GatedResBlock(key_channel, channel, 1, dropout=dropout, elu_inplace=inplace)
        self.query_resblock = GatedResBlock(query_channel, channel, 1, dropout=dropout, elu_inplace=inplace)
        self.causal_attention = CausalAttention(
            query_channel, key_channel, channel // 2, n_head=config.n_head, dropout=dropout
        )
        self.out_resblock = GatedResBlock(
            channel, channel, 1, auxiliary_channel=channel // 2, dropout=dropout, elu_inplace=inplace
        )

    def forward(self, x: Tensor, background: Tensor, condition: Tensor | None) -> Tensor:
        """x [B, C, H, W], background [B, 2, H, W], condition [B, N, H, W] -> [B, C, H, W]."""
        out: Tensor = x
        for resblock in self.resblocks:
            out = resblock(out, condition=condition)
        if not self.attention:
            out = self.out(torch.cat([out, background], dim=1))
            return out
        block_input = F.elu(x) if self.overwrites_input else x
        key = self.key_resblock(torch.cat([block_input, out, background], dim=1))
        query = self.query_resblock(torch.cat([out, background], dim=1))
        out = self.out_resblock(out, self.causal_attention(query, key))
        return out


class CondResNet(nn.Module):
    """Condition codes, one-hot [B, L, h, w], to features [B, N, h, w]; it may look in all directions."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        channel, kernel = config.condition_channel, config.cond_res_kernel
        blocks: list[nn.Module] = [WNConv2d(config.levels, channel, kernel, padding=kernel // 2)]
        for _ in range(config.cond_res_block):
            blocks.append(
                GatedResBlock(channel, channel, kernel, dropout=config.dropout, elu_inplace=config.elu_inplace)
            )
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(x)
        return out


class EmbedNet(nn.Module):
    """One-hot labels [B, labels] to a flat condition map [B, P]: linear layers without a nonlinearity between them."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        height, width = config.shape
        widths = [config.n_label, *config.label_hidden, height * width]
        self.blocks = nn.Sequential(
            *(nn.Linear(inputs, outputs) for inputs, outputs in zip(widths[:-1], widths[1:], strict=True))
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(x)
        return out


class Prior(nn.Module):
    """The network that `config` describes; parameters are named as in the public files.

    In training mode dropout is active and everything is differentiable. Thread-safe for concurrent eval-mode forwards:
    nothing is written on the module.
    """

    background: Tensor

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        levels, channel, kernel = config.levels, config.channel, config.kernel_size
        self.horizontal = CausalConv2d(levels, channel, (kernel // 2, kernel), pad="down")
        self.vertical = CausalConv2d(levels, channel, ((kernel + 1) // 2, kernel // 2), pad="downright")
        self.register_buffer("background", coordinates(*config.shape))
        self.blocks = nn.ModuleList(PixelBlock(config) for _ in range(config.n_block))
        if config.condition == "codes":
            self.cond_resnet = CondResNet(config)
        elif config.condition == "label":
            self.embedNet = EmbedNet(config)
        out: list[nn.Module] = [
            GatedResBlock(channel, config.res_channel, 1, dropout=config.dropout, elu_inplace=config.elu_inplace)
            for _ in range(config.n_out_res_block)
        ]
        self.out = nn.Sequential(*out, nn.ELU(), WNConv2d(channel, levels, 1))

    def forward(self, codes: Tensor, **conditions: Tensor) -> Tensor:
        """Logits of every position given all earlier ones.

        Takes codes int64 [B, H, W] in [0, levels), and the condition by its name: `label` int64 [B], or `condition`
        int64 [B, H/upsample, W/upsample] in [0, levels). Gives float [B, levels, H, W] in the parameters' dtype.
        Codes may be the first rows of the canvas only, [B, h, W]: causality makes their logits the same.

        Raises:
            RequestError: a shape is not the one that the model was trained for, or a condition is missing or unknown.
        """
        self._check(codes, conditions)
        one_hot = self._one_hot(codes)
        out: Tensor = shift_down(self.horizontal(one_hot)) + shift_right(self.vertical(one_hot))  # [B, C, H, W]
        rows = codes.shape[1]
        background = self.background[:, :, :rows].expand(codes.shape[0], -1, -1, -1)  # [B, 2, h, W]
        condition = self._condition_map(conditions)
        if condition is not None:
            condition = condition[:, :, :rows]
        for block in self.blocks:
            out = block(out, background, condition)
        out = self.out(out)
        return out

    def _one_hot(self, codes: Tensor) -> Tensor:
        """[B, H, W] -> [B, levels, H, W]."""
        return F.one_hot(codes, self.config.levels).permute(0, 3, 1, 2).to(self.background.dtype)

    def _condition_map(self, conditions: dict[str, Tensor]) -> Tensor | None:
        """The condition as a map [B, N, H, W] for every residual block."""
        config = self.config
        if config.condition == "label":
            labels = F.one_hot(conditions["label"], config.n_label).to(self.background.dtype)  # [B, labels]
            flat: Tensor = self.embedNet(labels)  # [B, P]
            return flat.view(-1, 1, *config.shape)  # [B, 1, H, W]
        if config.condition == "codes":
            features = self.cond_resnet(self._one_hot(conditions["condition"]))  # [B, N, h, w]
            return F.interpolate(features, scale_factor=config.upsample)
        return None

    def _check(self, codes: Tensor, conditions: dict[str, Tensor]) -> None:
        expected: dict[str, tuple[int, ...]] = {"codes": self.config.shape, **self.config.condition_shapes}
        given = {"codes": codes, **conditions}
        if given.keys() != expected.keys():
            raise RequestError(
                f"the model takes {', '.join(expected)}, but it was given {', '.join(given)}; "
                "pass every condition by its name"
            )
        if codes.ndim == 3 and 0 < codes.shape[1] < self.config.shape[0]:
            expected["codes"] = (codes.shape[1], self.config.shape[1])
        for name, shape in expected.items():
            if given[name].shape != (codes.shape[0], *shape):
                raise RequestError(
                    f"{name} has shape {list(given[name].shape)}, but this model was trained for "
                    f"{['B', *shape]} only (its coordinates are part of it), with one B for all inputs"
                )
            if given[name].dtype != torch.int64:
                raise RequestError(f"{name} has dtype {given[name].dtype}; it must be torch.int64")
