"""Layers of the VQ-prior family: weight-normed convolutions, the gated residual block, strictly causal attention.

Parameter names are those of the public files (rosinality/vq-vae-2-pytorch), so that state dicts pass both ways. Unlike
there, nothing is written through `.data`: the causal mask is part of the effective weight, taken before its norm.

Shapes: `B` images, `C` channels, `H W` rows and columns, `P = H*W` raster positions, `K` heads, `D` width of a head.

Sources: Chen et al. 2018, "PixelSNAIL: An Improved Autoregressive Generative Model" (blocks, attention); van den Oord
et al. 2016, "Pixel Recurrent Neural Networks" (masks); Salimans & Kingma 2016, "Weight Normalization".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "CausalAttention",
    "CausalConv2d",
    "GatedResBlock",
    "NormedWeight",
    "WNConv2d",
    "WNLinear",
    "shift_down",
    "shift_right",
]

HIDDEN_LOGIT = -1e4  # what the public code fills masked attention logits with; exp of it is 0 in float32 and float64


def weight_norm(weight_v: Tensor, weight_g: Tensor) -> Tensor:
    """`g * v / ||v||`, one norm for each output channel (axis 0), as in Salimans & Kingma 2016, equation 2.

    Takes weight_v [out, ...] and weight_g [out, 1, ...]; gives the shape of weight_v. A row of zeros gives NaN.
    """
    norm = weight_v.flatten(1).pow(2).sum(dim=1).sqrt()  # [out]
    return weight_v * (weight_g / norm.view_as(weight_g))


def shift_down(x: Tensor) -> Tensor:
    """Move x [B, C, H, W] down by a row; row 0 becomes 0 (not the bias of the convolution before)."""
    return F.pad(x, [0, 0, 1, 0])[:, :, : x.shape[2], :]


def shift_right(x: Tensor) -> Tensor:
    """Move x [B, C, H, W] right by a column; column 0 becomes 0 (not the bias of the convolution before)."""
    return F.pad(x, [1, 0, 0, 0])[:, :, :, : x.shape[3]]


class NormedWeight(nn.Module):
    """The parameters `bias` [out], `weight_g` [out, 1, ...] and `weight_v` [out, ...] of one weight-normed layer."""

    def __init__(self, shape: Sequence[int], *, bias: bool = True) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(max(math.prod(shape[1:]), 1))
        weight = torch.empty(*shape).uniform_(-bound, bound)
        self.bias = nn.Parameter(torch.empty(shape[0]).uniform_(-bound, bound)) if bias else None
        norm = weight.flatten(1).norm(dim=1)  # [out]
        self.weight_g = nn.Parameter(norm.view(-1, *[1] * (len(shape) - 1)))  # [out, 1, ...]
        self.weight_v = nn.Parameter(weight)

    def masked_v(self) -> Tensor:
        """`weight_v` with zeros where the layer may not look; its norm is taken of this."""
        return self.weight_v


class _NormedConv2d(NormedWeight):
    """A weight-normed convolution; with `causal`, the last kernel row is 0 from its centre on, before the norm."""

    def __init__(
        self, in_channel: int, out_channel: int, kernel: tuple[int, int], *, padding: int, bias: bool, causal: bool
    ) -> None:
        super().__init__((out_channel, in_channel, *kernel), bias=bias)
        self.padding = padding
        self.causal = causal

    def masked_v(self) -> Tensor:
        if not self.causal:
            return self.weight_v
        width = self.weight_v.shape[3]
        above, current = self.weight_v[:, :, :-1, :], self.weight_v[:, :, -1:, : width // 2]
        return torch.cat([above, F.pad(current, [0, width - width // 2])], dim=2)

    def forward(self, x: Tensor) -> Tensor:
        weight = weight_norm(self.masked_v(), self.weight_g)
        return F.conv2d(x, weight, self.bias, padding=self.padding)


class WNConv2d(nn.Module):
    """A weight-normed convolution [B, in, H, W] -> [B, out, H', W']; its parameters are under `.conv`."""

    def __init__(
        self,
        in_channel: int,
        out_channel: int,
        kernel: int | tuple[int, int],
        *,
        padding: int = 0,
        bias: bool = True,
        causal: bool = False,
    ) -> None:
        super().__init__()
        size = (kernel, kernel) if isinstance(kernel, int) else kernel
        self.conv = _NormedConv2d(in_channel, out_channel, size, padding=padding, bias=bias, causal=causal)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class WNLinear(NormedWeight):
    """A weight-normed linear layer [..., in] -> [..., out]."""

    def __init__(self, in_channel: int, out_channel: int) -> None:
        super().__init__((out_channel, in_channel))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, weight_norm(self.weight_v, self.weight_g), self.bias)


class CausalConv2d(nn.Module):
    """A convolution that keeps H and W and looks only up and sideways; its parameters are under `.conv.conv`.

    `pad` names the border: "down" pads both sides and the top (for a shift down afterwards), "downright" the left and
    the top (for a shift right afterwards), "causal" is "down" with the current row masked from the centre on.
    """

    def __init__(self, in_channel: int, out_channel: int, kernel: tuple[int, int], *, pad: str) -> None:
        super().__init__()
        height, width = kernel
        left, right = (width - 1, 0) if pad == "downright" else (width // 2, width // 2)
        self.pad = [left, right, height - 1, 0]
        self.conv = WNConv2d(in_channel, out_channel, kernel, causal=pad == "causal")

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.pad(x, self.pad))
        return out


class GatedResBlock(nn.Module):
    """ELU, conv, (+ auxiliary), ELU, dropout, conv to 2C, (+ condition), GLU, + input.

    `causal` chooses masked k×k convolutions; otherwise they are padded all round. With `elu_inplace` the residual adds
    ELU(input), because the public code before July 2020 overwrote its input.
    """

    def __init__(
        self,
        in_channel: int,
        channel: int,
        kernel_size: int,
        *,
        causal: bool = False,
        auxiliary_channel: int = 0,
        condition_channel: int = 0,
        dropout: float = 0.1,
        elu_inplace: bool = False,
    ) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int) -> nn.Module:
            if causal:
                return CausalConv2d(inputs, outputs, (kernel_size, kernel_size), pad="causal")
            return WNConv2d(inputs, outputs, kernel_size, padding=kernel_size // 2)

        self.elu_inplace = elu_inplace
        self.conv1 = conv(in_channel, channel)
        if auxiliary_channel > 0:
            self.aux_conv = WNConv2d(auxiliary_channel, channel, 1)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = conv(channel, in_channel * 2)
        if condition_channel > 0:
            self.condition = WNConv2d(condition_channel, in_channel * 2, 1, bias=False)

    def forward(self, x: Tensor, auxiliary: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """x [B, C, H, W], auxiliary [B, A, H, W], condition [B, N, H, W] -> [B, C, H, W]."""
        active = F.elu(x)
        out = self.conv1(active)
        if auxiliary is not None:
            out = out + self.aux_conv(F.elu(auxiliary))
        out = self.conv2(self.dropout(F.elu(out)))
        if condition is not None:
            out = out + self.condition(condition)
        return F.glu(out, dim=1) + (active if self.elu_inplace else x)


class CausalAttention(nn.Module):
    """Multi-head attention over strictly earlier raster positions; the result at position 0 is exactly 0.

    query [B, Cq, H, W] and key [B, Ck, H, W] (which also makes the values) -> [B, channel, H, W].
    """

    def __init__(
        self, query_channel: int, key_channel: int, channel: int, *, n_head: int, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.query = WNLinear(query_channel, channel)
        self.key = WNLinear(key_channel, channel)
        self.value = WNLinear(key_channel, channel)
        self.n_head = n_head
        self.dropout = nn.Dropout(dropout)

    def _heads(self, x: Tensor) -> Tensor:
        """[B, P, K*D] -> [B, K, P, D]."""
        batch, positions, channel = x.shape
        return x.view(batch, positions, self.n_head, channel // self.n_head).transpose(1, 2)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        batch, _, height, width = key.shape
        query_flat = query.flatten(2).transpose(1, 2)  # [B, P, Cq]
        key_flat = key.flatten(2).transpose(1, 2)  # [B, P, Ck]
        queries = self._heads(self.query(query_flat))  # [B, K, P, D]
        keys = self._heads(self.key(key_flat))  # [B, K, P, D]
        values = self._heads(self.value(key_flat))  # [B, K, P, D]

        logits = torch.matmul(queries, keys.transpose(2, 3)) / math.sqrt(queries.shape[3])  # [B, K, P, P]
        position = torch.arange(height * width, device=key.device)
        hidden = position.view(-1, 1) <= position.view(1, -1)  # [P, P]: the key is not strictly earlier
        has_past = (position > 0).to(key.dtype).view(-1, 1)  # [P, 1]
        attention = torch.softmax(logits.masked_fill(hidden, HIDDEN_LOGIT), dim=3) * has_past
        out = torch.matmul(self.dropout(attention), values)  # [B, K, P, D]
        out = out.transpose(1, 2).reshape(batch, height, width, -1)  # [B, H, W, K*D]
        return out.permute(0, 3, 1, 2)  # [B, K*D, H, W]
