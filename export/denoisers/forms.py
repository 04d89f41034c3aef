"""The network in the form that graphs take: the same function with fewer products, and norms that engines have."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.export.codecs.graph import groupwise
from pixelsnail_infer.export.denoisers.winograd import WinogradConvolution, pays
from pixelsnail_infer.export.tracing.fresh import fresh_copy
from pixelsnail_infer.models.unet import UNet
from pixelsnail_infer.models.unet_layers import Attention, Downsample, Residual, Upsample

__all__ = ["FoldedAttention", "FoldedResidual", "SubpixelUpsample", "graph_form"]

# Which taps of a 3×3 kernel fall on the same pixel before it is enlarged, for each row of the enlarged 2×2: an even row
# reads the pixel above and twice its own, an odd row twice its own and the one below.
SAME = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])  # [row, tap of 2, of 3]


class SubpixelUpsample(nn.Module):
    """Enlarging and convolving, as four 2×2 kernels on the small picture, one for each pixel of the enlarged 2×2: 16
    products for 36. Sums of weights are taken in float64."""

    def __init__(self, layer: Upsample) -> None:
        super().__init__()
        weight, same = layer.conv.weight.detach().double(), SAME.double()
        kernels = torch.einsum("oikl,rpk,cql->orcipq", weight, same, same)  # [out, row, column, in, 2, 2]
        self.weight = nn.Buffer(kernels.reshape(-1, *kernels.shape[3:]).to(layer.conv.weight.dtype))
        assert layer.conv.bias is not None
        self.bias = nn.Buffer(layer.conv.bias.detach().repeat_interleave(4))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, h, w]` to `[B, C, 2h, 2w]`."""
        batch, channels, height, width = x.shape
        every = F.conv2d(x, self.weight, self.bias, padding=1)  # [B, 4C, h + 1, w + 1]
        every = every.reshape(batch, channels, 2, 2, height + 1, width + 1)  # of each row and column of the 2×2
        rows = torch.stack([every[:, :, 0, :, :-1], every[:, :, 1, :, 1:]], dim=4)  # [B, C, column, h, row, w + 1]
        both = torch.stack([rows[:, :, 0, :, :, :-1], rows[:, :, 1, :, :, 1:]], dim=5)  # [B, C, h, row, w, column]
        return both.reshape(batch, channels, 2 * height, 2 * width)


class FoldedResidual(Residual):
    """A residual layer that is scaled and shifted, whose second norm's own scale and shift are part of what it is told:
    what depends on the step alone is not done for every pixel."""

    def __init__(self, layer: Residual) -> None:
        nn.Module.__init__(self)
        self.told, self.in_layers = layer.told, layer.in_layers
        self.skip_connection = layer.skip_connection
        norm, linear = layer.out_layers[0], layer.emb_layers[1]
        assert isinstance(norm, nn.GroupNorm) and isinstance(linear, nn.Linear)
        scale, shift = norm.weight.detach().double(), norm.bias.detach().double()
        self.emb_layers = nn.Sequential(nn.SiLU(), _told(linear, scale, shift))
        self.norm = nn.GroupNorm(norm.num_groups, norm.num_channels, eps=norm.eps, affine=False)
        self.after = layer.out_layers[1:]

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """`[B, inputs, h, w]` and its projection `[B, told]` to `[B, outputs, h, w]`."""
        scale, shift = told[:, :, None, None].chunk(2, dim=1)
        kept: Tensor = self.skip_connection(x)
        return kept + self.after(self.norm(self.in_layers(x)) * scale + shift)


class FoldedAttention(Attention):
    """Attention whose norm's scale and shift, and the scale of queries and keys, are part of the weights."""

    def __init__(self, layer: Attention) -> None:
        nn.Module.__init__(self)
        self.heads, self.proj_out = layer.heads, layer.proj_out
        self.norm = nn.GroupNorm(layer.norm.num_groups, layer.norm.num_channels, eps=layer.norm.eps, affine=False)
        assert layer.qkv.bias is not None
        weight, bias = layer.qkv.weight.detach().double()[:, :, 0], layer.qkv.bias.detach().double()
        bias = bias + weight @ layer.norm.bias.detach().double()
        weight = weight * layer.norm.weight.detach().double()
        each = len(weight) // (3 * layer.heads)
        scale = torch.tensor([each**-0.25, each**-0.25, 1.0], dtype=torch.float64)  # of queries, keys, values
        every = scale.repeat_interleave(each).repeat(layer.heads)
        self.weight = nn.Buffer((weight * every[:, None])[:, :, None].to(layer.qkv.weight.dtype))
        self.bias = nn.Buffer((bias * every).to(layer.qkv.weight.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, h, w]` to the same."""
        batch, channels, height, width = x.shape
        normed = self.norm(x).reshape(batch, channels, height * width)
        heads = F.conv1d(normed, self.weight, self.bias)
        heads = heads.reshape(batch, self.heads, 3 * channels // self.heads, height * width)
        query, key, value = heads.chunk(3, dim=2)  # [B, K, C/K, P]
        weights = torch.softmax(query.transpose(2, 3) @ key, dim=-1)  # [B, K, P, P]
        seen = (weights @ value.transpose(2, 3)).transpose(2, 3).reshape(batch, channels, height * width)
        return x + self.proj_out(seen).reshape(x.shape)


def _told(linear: nn.Linear, scale: Tensor, shift: Tensor) -> nn.Linear:
    """Of (s, t) the scale and shift, the layer that gives scale (1 + s) and shift (1 + s) + t."""
    weight, bias = (part.detach().double().chunk(2) for part in (linear.weight, linear.bias))
    more = 1 + bias[0]
    folded = nn.Linear(linear.in_features, linear.out_features, dtype=linear.weight.dtype)
    folded.weight.data.copy_(torch.cat([scale[:, None] * weight[0], shift[:, None] * weight[0] + weight[1]]))
    folded.bias.data.copy_(torch.cat([scale * more, shift * more + bias[1]]))
    return folded.requires_grad_(False)


def _heights(module: UNet) -> Iterator[tuple[nn.Module, int]]:
    """Every block of the network, and how many rows it works on."""
    height = module.config.shape[0]
    for block in (*module.input_blocks, module.middle_block, *module.output_blocks, module.out):
        yield block, height
        for layer in block.children():
            height = height // 2 if isinstance(layer, Downsample) else height * 2 if isinstance(layer, Upsample) \
                else height


def graph_form(module: UNet) -> UNet:
    """A copy of the network in this form."""
    copied = fresh_copy(module)
    assert isinstance(copied, UNet)
    for block, height in _heights(copied):
        for parent in list(block.modules()):
            for name, child in parent.named_children():
                if not isinstance(parent, Upsample) and pays(child, height):
                    setattr(parent, name, WinogradConvolution(child, height))  # type: ignore[arg-type]
    for parent in list(copied.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Upsample):
                setattr(parent, name, SubpixelUpsample(child))
            elif isinstance(child, Residual) and child.scale_shift:
                setattr(parent, name, FoldedResidual(child))
            elif isinstance(child, Attention):
                setattr(parent, name, FoldedAttention(child))
    groupwise(copied)
    return copied.eval()
