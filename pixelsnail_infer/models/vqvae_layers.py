"""Building blocks of the VQ-VAEs. Legend of shapes: `B` images, `C` channels, `D` of a code's vector, `h w` codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["CodeBook", "ImageDecoder", "ImageEncoder", "nearest_codes"]


def nearest_codes(vectors: Tensor, table: Tensor) -> Tensor:
    """For each of `vectors` [B, D, h, w] the row of `table` [n, D] at the least distance, int64 [B, h, w]; of equally
    near rows the first. The vectors' own squares, equal for all rows, are left out of the distances."""
    flat = vectors.permute(0, 2, 3, 1)  # [B, h, w, D]
    distances = table.pow(2).sum(1) - 2 * (flat @ table.T)  # [B, h, w, n]
    return distances.argmin(-1)


class CodeBook(nn.Module):
    """The vectors of the codes, a buffer [D, n]."""

    embed: Tensor

    def __init__(self, dim: int, levels: int) -> None:
        super().__init__()
        self.register_buffer("embed", torch.randn(dim, levels))

    @property
    def table(self) -> Tensor:
        """One row for each code, [n, D]."""
        return self.embed.T

    def forward(self, codes: Tensor) -> Tensor:
        """Codes int64 [B, h, w] to their vectors [B, D, h, w]."""
        return F.embedding(codes, self.table).permute(0, 3, 1, 2)


class ResBlock(nn.Module):
    """3×3 and 1×1 convolutions, each after a ReLU, added to the input, or to its ReLU where that came in place."""

    def __init__(self, channel: int, hidden: int, relu_inplace: bool) -> None:
        super().__init__()
        self.relu_inplace = relu_inplace
        self.conv = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channel, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, channel, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to the same."""
        kept = F.relu(x) if self.relu_inplace else x
        return kept + self.conv(x)


class ImageEncoder(nn.Module):
    """Strided convolutions down by `factor`, a 3×3 convolution, residual blocks, ReLU; the sum over all branches."""

    def __init__(
        self,
        inputs: int,
        channel: int,
        n_res_block: int,
        hidden: int,
        factor: int,
        kernels: tuple[int, ...],
        relu_inplace: bool,
    ) -> None:
        super().__init__()
        self.names = ["blocks"] if len(kernels) == 1 else [f"blocks_{k + 1}" for k in range(len(kernels))]
        for name, kernel in zip(self.names, kernels, strict=True):
            layers: list[nn.Module] = []
            widths = [inputs, *[channel // 2] * (factor.bit_length() - 2), channel]
            if factor == 2:
                widths = [inputs, channel // 2]  # a single one does not reach the full width
            for before, after in zip(widths[:-1], widths[1:], strict=True):
                layers += [nn.Conv2d(before, after, kernel, stride=2, padding=kernel // 2 - 1), nn.ReLU()]
            layers.append(nn.Conv2d(widths[-1], channel, 3, padding=1))
            layers += [ResBlock(channel, hidden, relu_inplace) for _ in range(n_res_block)]
            self.add_module(name, nn.Sequential(*layers, nn.ReLU()))

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, h·factor, w·factor] to [B, C, h, w]."""
        first, *others = [self.get_submodule(name)(x) for name in self.names]
        for other in others:
            first = first + other
        return first


class ImageDecoder(nn.Module):
    """A 3×3 convolution, residual blocks, ReLU, transposed convolutions up by `factor`."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        channel: int,
        n_res_block: int,
        hidden: int,
        factor: int,
        relu_inplace: bool,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(inputs, channel, 3, padding=1)]
        layers += [ResBlock(channel, hidden, relu_inplace) for _ in range(n_res_block)]
        widths = [channel, *[channel // 2] * (factor.bit_length() - 2), outputs]
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.ReLU(), nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)]
        self.blocks = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, h, w] to [B, outputs, h·factor, w·factor]."""
        return self.blocks(x)
