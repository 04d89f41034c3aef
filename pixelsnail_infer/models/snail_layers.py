"""Layers of the original PixelSNAIL: weight-normed convolutions, shifts, the gated block, strictly causal attention.

Parameters are the original's: `V`, `g`, `b` of a weight-normed layer and `hw` of a condition, with PyTorch's axes.

Shapes: `B` images, `C` channels, `H W` rows and columns, `P = H*W` raster positions, `Q` positions of the keys.

Sources: Chen et al. 2018, "PixelSNAIL", and its public code, neocxi/pixelsnail-public (`pixel_cnn_pp/nn.py`);
Salimans et al. 2017, "PixelCNN++" (shifts, gated block); Salimans & Kingma 2016, "Weight Normalization" (the start).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.models.layers import shift_down, shift_right

__all__ = [
    "Conv",
    "GatedResnet",
    "Normed",
    "ShiftNin",
    "causal_attention",
    "concat_elu",
    "earlier",
    "nonlinearity",
    "shift_left",
]

HIDDEN = 1e10  # what the original takes off the products with keys that a query may not see
ROUNDING = 1e-6  # what the original adds to the sum of the weights; it makes position 0 exactly 0


def concat_elu(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, 2C, H, W]: ELU of x and of -x."""
    return F.elu(torch.cat([x, -x], dim=1))


def nonlinearity(name: str) -> Callable[[Tensor], Tensor]:
    """The function of that name: concat_elu, elu or relu. Raises KeyError for another."""
    functions: dict[str, Callable[[Tensor], Tensor]] = {"concat_elu": concat_elu, "elu": F.elu, "relu": F.relu}
    return functions[name]


def shift_left(x: Tensor) -> Tensor:
    """Move x [B, C, H, W] left by a column; the last column becomes 0."""
    return F.pad(x, [0, 1, 0, 0])[:, :, :, 1:]


class Normed(nn.Module):
    """A weight-normed layer: the linear map `product` of `g * V / ||V||`, one norm for each output channel, plus `b`.

    `kind` is the original's name of the layer. `axis` is that of the output channels in `V`.
    """

    def __init__(self, shape: tuple[int, ...], kind: str, *, axis: int = 0, init_scale: float = 1.0) -> None:
        super().__init__()
        self.kind = kind
        self.axis = axis
        self.init_scale = init_scale
        self.V = nn.Parameter(torch.randn(*shape) * 0.05)
        self.g = nn.Parameter(torch.full((shape[axis],), init_scale))
        self.b = nn.Parameter(torch.zeros(shape[axis]))

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The layer with this weight, of the shape of `V`."""
        raise NotImplementedError

    def direction(self) -> Tensor:
        """`V` with the norm 1 for every output channel, in its shape; a channel of zeros stays zeros."""
        others = [axis for axis in range(4) if axis != self.axis]
        return self.V * self.V.pow(2).sum(dim=others, keepdim=True).clamp_min(1e-12).rsqrt()

    def forward(self, x: Tensor) -> Tensor:
        lengths = self.g.view([-1 if axis == self.axis else 1 for axis in range(4)])
        return self.product(x, lengths * self.direction(), self.b)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set `g` and `b` so that the result for x [B, in, H, W] has mean 0 and deviation `init_scale` per channel."""
        out = self.product(x, self.direction())
        scale = self.init_scale / torch.sqrt(out.var(dim=(0, 2, 3), correction=0) + 1e-8)
        self.g.copy_(scale)
        self.b.copy_(-out.mean(dim=(0, 2, 3)) * scale)


class Conv(Normed):
    """A weight-normed convolution [B, in, H, W] -> [B, out, H, W] that looks up and sideways only.

    `pad` names the border: "down" pads the top and both sides, "down_right" the top and the left; a 1×1 needs none.
    With a `stride` it is [B, out, H / stride, W / stride], for sizes that the stride divides. `V` is [out, in, h, w].
    """

    def __init__(
        self,
        in_channel: int,
        out_channel: int,
        kernel: tuple[int, int] = (1, 1),
        *,
        pad: Literal["down", "down_right"] = "down_right",
        stride: int = 1,
        init_scale: float = 1.0,
    ) -> None:
        kind = "dense" if kernel == (1, 1) else "conv2d"
        super().__init__((out_channel, in_channel, *kernel), kind, init_scale=init_scale)
        height, width = kernel
        left, right = (width - 1, 0) if pad == "down_right" else ((width - 1) // 2, (width - 1) // 2)
        self.pad = [left, right, height - 1, 0]
        self.stride = stride

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The convolution, after the padding."""
        return F.conv2d(F.pad(x, self.pad) if any(self.pad) else x, weight, bias, self.stride)


class ShiftNin(nn.Module):
    """Quarters of the channels moved right, down-right, down and down-left, then a 1×1, instead of a convolution.

    The last move takes the *second* quarter again and the fourth is never read: what the public code does.
    """

    def __init__(self, in_channel: int, out_channel: int, *, init_scale: float = 1.0) -> None:
        super().__init__()
        self.nin = Conv(in_channel, out_channel, init_scale=init_scale)

    def forward(self, x: Tensor) -> Tensor:
        left, up_left, up, _ = x.chunk(4, dim=1)
        down = shift_down(up_left)
        moved = [shift_right(left), shift_right(down), shift_down(up), shift_down(shift_left(up_left))]
        out: Tensor = self.nin(torch.cat(moved, dim=1))
        return out


class GatedResnet(nn.Module):
    """Nonlinearity, conv, (+ 1×1 of the auxiliary), nonlinearity, dropout, conv to 2C, (+ h·hw), gate, + input.

    `kind` chooses the two convolutions: 2×2 that include the current position, 2×3 that include the columns on both
    sides of it, shifted quarters, or 1×1.
    """

    def __init__(
        self,
        channel: int,
        kind: Literal["down", "down_right", "shift", "nin"],
        *,
        auxiliary_channel: int = 0,
        hidden: int = 0,
        activation: str = "elu",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        wide = 2 if activation == "concat_elu" else 1

        def conv(outputs: int, init_scale: float) -> nn.Module:
            if kind == "shift":
                return ShiftNin(channel * wide, outputs, init_scale=init_scale)
            if kind == "nin":
                return Conv(channel * wide, outputs, init_scale=init_scale)
            kernel = (2, 3) if kind == "down" else (2, 2)
            return Conv(channel * wide, outputs, kernel, pad=kind, init_scale=init_scale)

        self.activation = nonlinearity(activation)
        self.conv1 = conv(channel, 1.0)
        self.nin = Conv(auxiliary_channel * wide, channel) if auxiliary_channel else None
        self.dropout = nn.Dropout(dropout)
        self.conv2 = conv(channel * 2, 0.1)
        self.hw = nn.Parameter(torch.randn(hidden, channel * 2) * 0.05) if hidden else None

    def forward(self, x: Tensor, auxiliary: Tensor | None = None, h: Tensor | None = None) -> Tensor:
        """x [B, C, H, W], auxiliary [B, A, H, W], h [B, K] -> [B, C, H, W]."""
        out = self.conv1(self.activation(x))
        if self.nin is not None and auxiliary is not None:
            out = out + self.nin(self.activation(auxiliary))
        out = self.conv2(self.dropout(self.activation(out)))
        if self.hw is not None and h is not None:
            out = out + (h @ self.hw)[:, :, None, None]
        value, gate = out.chunk(2, dim=1)
        return x + value * torch.sigmoid(gate)


def earlier(height: int, width: int, downsample: int, like: Tensor) -> Tensor:
    """What each position may attend to: 1 or 0, [P, Q], in the dtype and on the device of `like`.

    With `downsample` 2 a key stands for a block of 2×2 positions, and counts only when all four are earlier.
    """
    positions = height * width
    index = torch.arange(positions, device=like.device)
    last = index.view(height, width)[downsample - 1 :: downsample, downsample - 1 :: downsample].flatten()  # [Q]
    return (last[None, :] < index[:, None]).to(like.dtype)


def causal_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """One head over strictly earlier positions; where the mask hides every key the result is exactly 0.

    query [B, K, H, W], key [B, K, h, w], value [B, D, h, w] and mask [P, Q] of ones and zeros -> [B, D, H, W].
    """
    batch, width, rows, columns = query.shape
    dot = torch.matmul(query.flatten(2).transpose(1, 2), key.flatten(2)) - (1.0 - mask) * HIDDEN  # [B, P, Q]
    dot = dot - dot.amax(dim=-1, keepdim=True)
    weight = torch.exp(dot / width**0.5) * mask
    weight = weight / (weight.sum(dim=-1, keepdim=True) + ROUNDING)
    mixed = torch.matmul(weight, value.flatten(2).transpose(1, 2))  # [B, P, D]
    return mixed.transpose(1, 2).reshape(batch, value.shape[1], rows, columns)
