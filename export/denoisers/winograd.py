"""Convolutions of 3×3 taps in Winograd's form down the columns: half the products, where that pays."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.export.analysis.winograd import Winograd, winograd

__all__ = ["WinogradConvolution", "pays"]

TAPS, TILE = 3, 4  # taps and results along a column; F(4, 3) takes 6 products for 12
SHORTEST = 16  # columns of which it pays
MOST = 0.65  # of the plain convolution's products; transforms run slower than these


def pays(conv: nn.Module, height: int) -> bool:
    """Whether this layer on images of `height` rows is quicker so: it saves half the products, and the transforms, as
    products with a matrix of a whole column, take more the longer that is."""
    if not (isinstance(conv, nn.Conv2d) and conv.kernel_size == (TAPS, TAPS) and conv.stride == (1, 1)
            and conv.padding == (1, 1) and conv.groups == 1 and conv.dilation == (1, 1)):
        return False
    if height < SHORTEST or height % TILE:
        return False
    inputs, outputs, points = conv.in_channels, conv.out_channels, (TILE + TAPS - 1) / TILE
    products = points * TAPS * inputs * outputs + points * height * (inputs + outputs)  # for each pixel
    return products <= MOST * TAPS**2 * inputs * outputs


class WinogradConvolution(nn.Module):
    """The convolution `conv` on images of `height` rows. Rows of the transformed image are apart by point of the form;
    each point is a group of one convolution along the rows."""

    def __init__(self, conv: nn.Conv2d, height: int) -> None:
        super().__init__()
        form = winograd(TAPS, height)
        assert form is not None and form.results == TILE and conv.bias is not None
        self.points, self.tiles, self.outputs = form.points, height // TILE, conv.out_channels
        weight = torch.einsum("pk,oikl->poil", form.of_weights, conv.weight.detach().double())  # [points, out, in, 3]
        dtype = conv.weight.dtype
        self.weight = nn.Buffer(weight.reshape(-1, conv.in_channels, 1, TAPS).to(dtype))
        self.bias = nn.Buffer(conv.bias.detach()[:, None, None].clone())
        of_column, to_column = _of_whole_columns(form, self.tiles)
        self.of_column, self.to_column = nn.Buffer(of_column.to(dtype)), nn.Buffer(to_column.to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, inputs, h, w]` to `[B, outputs, h, w]`."""
        batch, channels, height, width = x.shape
        each = (self.of_column @ x).reshape(batch, channels, self.points, self.tiles, width)
        grouped = each.transpose(1, 2).reshape(batch, self.points * channels, self.tiles, width)
        products = F.conv2d(grouped, self.weight, padding=(0, 1), groups=self.points)
        each = products.reshape(batch, self.points, self.outputs, self.tiles, width).transpose(1, 2)
        return self.to_column @ each.reshape(batch, self.outputs, self.points * self.tiles, width) + self.bias


def _of_whole_columns(form: Winograd, tiles: int) -> tuple[Tensor, Tensor]:
    """The form's matrices for all tiles of a column at once, `[points · tiles, h]` and `[h, points · tiles]`; beyond
    the image are zeros."""
    height = tiles * form.results
    data = torch.zeros(form.points, tiles, height + TAPS - 1, dtype=torch.float64)
    results = torch.zeros(tiles, form.results, form.points, tiles, dtype=torch.float64)
    for tile in range(tiles):
        data[:, tile, tile * form.results : tile * form.results + form.points] = form.of_data
        results[tile, :, :, tile] = form.of_results
    return data[:, :, 1:-1].reshape(-1, height), results.reshape(height, -1)
