"""Layers of the conditional PixelCNN: masked convolutions and the gated block with a class vector.

Parameter names are those of the public files (jrbtaylor/conditional-pixelcnn), so that state dicts pass both ways.
Unlike there, no weight is written: the mask multiplies it.

Shapes: `B` images, `C` channels, `H W` rows and columns, `N` classes.

Sources: van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders"; the public code.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["GatedBlock", "MaskedConv", "Shortcut"]


class MaskedConv(nn.Module):
    """A convolution [B, in, H, W] -> [B, out, H, W] with an odd square kernel, zero after the centre in raster order.

    Type A hides the centre as well, from all channels alike; B shows it.
    """

    mask: Tensor

    def __init__(self, kind: Literal["A", "B"], in_channel: int, out_channel: int, kernel: int) -> None:
        super().__init__()
        like = nn.Conv2d(in_channel, out_channel, kernel)  # for PyTorch's usual start
        assert like.bias is not None
        self.weight, self.bias = like.weight, like.bias
        centre = kernel * kernel // 2 + (kind == "B")  # how many taps are seen
        mask = (torch.arange(kernel * kernel) < centre).float().view(1, 1, kernel, kernel)
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.weight.shape[2] // 2)


class Shortcut(nn.Sequential):
    """A 1×1 convolution and batch norm, [B, in, H, W] -> [B, out, H, W]."""

    def __init__(self, in_channel: int, out_channel: int) -> None:
        super().__init__(nn.Conv2d(in_channel, out_channel, 1), nn.BatchNorm2d(out_channel))


class GatedBlock(nn.Module):
    """Masked convolution to tanh and sigmoid halves, each with a class vector added; batch norm of their product, + x.

    With `auxiliary`, a shortcut's result is averaged with the convolution's. In the public code the shortcut was meant
    for the features of the first half of the network, but it is given the block's own input again, and files were
    trained so. Here it takes the block's input.
    """

    def __init__(
        self, in_channel: int, out_channel: int, n_class: int, *, kernel: int = 3, auxiliary: bool = False
    ) -> None:
        super().__init__()
        self.conv = MaskedConv("B", in_channel, 2 * out_channel, kernel)
        self.y_embed = nn.Linear(n_class, 2 * out_channel)
        self.aux_shortcut = Shortcut(in_channel, 2 * out_channel) if auxiliary else None
        self.shortcut = Shortcut(in_channel, out_channel) if in_channel != out_channel else None
        self.batchnorm = nn.BatchNorm2d(out_channel)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x [B, in, H, W], class vectors y [B, N] -> [B, out, H, W]."""
        features = self.conv(x)
        if self.aux_shortcut is not None:
            features = (features + self.aux_shortcut(x)) / 2
        features = features + self.y_embed(y)[:, :, None, None]
        value, gate = features.chunk(2, dim=1)
        kept = x if self.shortcut is None else self.shortcut(x)
        out: Tensor = kept + self.batchnorm(torch.tanh(value) * torch.sigmoid(gate))
        return out
