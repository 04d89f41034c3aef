"""Blocks of the denoising U-Net. Shapes: `B` images, `C` channels, `P` positions, `K` heads."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.models.unet_config import GROUPS

__all__ = ["Attention", "Block", "Downsample", "Residual", "TimeFeatures", "Upsample"]

SLOWEST = 10_000.0  # period of the slowest sine, in radians per step


class TimeFeatures(nn.Module):
    """Cosines and sines of times at `width // 2` frequencies (Vaswani et al., 2017)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        exponents = torch.arange(half, dtype=torch.float32)
        self.frequencies = nn.Buffer(torch.exp(-math.log(SLOWEST) * exponents / half), persistent=False)
        self.odd = width % 2

    def forward(self, time: Tensor) -> Tensor:
        """`[B]` to `[B, width]`."""
        angles = time[:, None] * self.frequencies
        return F.pad(torch.cat([angles.cos(), angles.sin()], dim=1), (0, self.odd))


class Residual(nn.Module):
    """Two convolutions around what the time and the label add, or scale and shift, and the input added."""

    def __init__(self, inputs: int, outputs: int, embedded: int, scale_shift: bool) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.told = 2 * outputs if scale_shift else outputs
        self.in_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedded, self.told))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, outputs), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip_connection = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """`[B, inputs, h, w]` and its projection `[B, told]` to `[B, outputs, h, w]`."""
        told = told[:, :, None, None]
        inside = self.in_layers(x)
        if self.scale_shift:
            scale, shift = told.chunk(2, dim=1)
            inside = self.out_layers[1:](self.out_layers[0](inside) * (1 + scale) + shift)
        else:
            inside = self.out_layers(inside + told)
        kept: Tensor = self.skip_connection(x)
        return kept + inside


class Attention(nn.Module):
    """Every position attends to all, and the input is added. Of `qkv`, each head has its queries, keys and values
    one after the other."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, h, w]` to the same."""
        batch, channels, height, width = x.shape
        flat = x.reshape(batch, channels, height * width)  # [B, C, P]
        each = channels // self.heads
        normed = self.norm(x).reshape(flat.shape)
        heads = self.qkv(normed).reshape(batch, self.heads, 3 * each, height * width)
        query, key, value = (part.transpose(2, 3) for part in heads.split(each, dim=2))  # [B, K, P, C/K]
        scale = each ** -0.25  # of both factors, as it was trained
        weights = torch.softmax((query * scale) @ (key * scale).transpose(2, 3), dim=-1)  # [B, K, P, P]
        seen = (weights @ value).transpose(2, 3).reshape(batch, channels, height * width)  # [B, C, P]
        return (flat + self.proj_out(seen)).reshape(batch, channels, height, width)


class Downsample(nn.Module):
    """Half the size, by a convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, h, w]` to `[B, C, h/2, w/2]`."""
        result: Tensor = self.op(x)
        return result


class Upsample(nn.Module):
    """Twice the size, every pixel four times, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, h, w]` to `[B, C, 2h, 2w]`."""
        result: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return result


class Block(nn.Sequential):
    """Layers one after the other, of which the residual ones are told the time."""

    def forward(self, x: Tensor, told: dict[nn.Module, Tensor]) -> Tensor:  # type: ignore[override]
        """`[B, C, h, w]`, and by residual layer its projection `[B, told]`."""
        for layer in self:
            x = layer(x, told[layer]) if isinstance(layer, Residual) else layer(x)
        return x
