"""Building blocks of the first stages: residual blocks, attention, resampling. Shapes: `B` images, `C` channels."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.models.first_stage_config import GROUPS

__all__ = ["AttnBlock", "Downsample", "Middle", "ResnetBlock", "Upsample", "norm", "swish"]


def norm(channels: int) -> nn.GroupNorm:
    """Group norm as in the public code."""
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)


def swish(x: Tensor) -> Tensor:
    """x sigmoid(x)."""
    return x * torch.sigmoid(x)


class ResnetBlock(nn.Module):
    """Twice group norm, swish and a 3×3 convolution, added to the input, convolved where the width changes."""

    def __init__(self, inputs: int, outputs: int, shortcut: Literal["nin", "conv"]) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = norm(outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = None if inputs == outputs else f"{shortcut}_shortcut"
        if self.shortcut is not None:
            kernel = 1 if shortcut == "nin" else 3
            self.add_module(self.shortcut, nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2))

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, h, w] to [B, outputs, h, w]."""
        out = self.conv1(swish(self.norm1(x)))
        out = self.conv2(swish(self.norm2(out)))
        kept: Tensor = x if self.shortcut is None else self.get_submodule(self.shortcut)(x)
        return kept + out


class AttnBlock(nn.Module):
    """Attention over all positions, one head of full width, scaled by 1/√C, added to the input.

    Positions come before channels: TensorRT builds no engine of an encoder with products of [B, C, P].
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to the same."""
        batch, channels, height, width = x.shape
        normed = self.norm(x)
        query, key, value = (
            layer(normed).permute(0, 2, 3, 1).reshape(batch, height * width, channels)
            for layer in (self.q, self.k, self.v)
        )  # [B, P, C]
        weights = torch.softmax(query @ key.transpose(1, 2) * channels**-0.5, dim=2)  # [B, P queries, P keys]
        mixed = (weights @ value).reshape(batch, height, width, channels)  # [B, P, C] → [B, h, w, C]
        return x + self.proj_out(mixed.permute(0, 3, 1, 2))


class Middle(nn.Module):
    """Residual block, attention block or nothing, residual block, at the codes' resolution."""

    def __init__(self, channels: int, attention: bool, shortcut: Literal["nin", "conv"]) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels, shortcut)
        self.attn_1 = AttnBlock(channels) if attention else nn.Identity()
        self.block_2 = ResnetBlock(channels, channels, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to the same."""
        return self.block_2(self.attn_1(self.block_1(x)))


class Downsample(nn.Module):
    """Half the size: a 3×3 convolution of stride 2, padded below and right only, or means of 2×2 pixels."""

    def __init__(self, channels: int, with_conv: bool) -> None:
        super().__init__()
        self.with_conv = with_conv
        if with_conv:
            self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, 2 h, 2 w] to [B, C, h, w]."""
        return self.conv(F.pad(x, (0, 1, 0, 1))) if self.with_conv else F.avg_pool2d(x, 2)


class Upsample(nn.Module):
    """Twice the size: every pixel four times, then a 3×3 convolution where there is one."""

    def __init__(self, channels: int, with_conv: bool) -> None:
        super().__init__()
        self.with_conv = with_conv
        if with_conv:
            self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C, 2 h, 2 w]."""
        large = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.conv(large) if self.with_conv else large
