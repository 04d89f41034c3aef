"""Small networks that halve their canvas twice and double it again, in the precision of their weights."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.export.exporting import export_model

from ..zoo import LEVELS, First
from ..zoo_strides import Streams, Two

SHAPES = {"twice": (8, 8), "rows": (6, 5)}


class Halving(nn.Module):
    """Both streams of PixelCNN++, through its levels; a label is added to both."""

    def __init__(self, levels: nn.Module) -> None:
        super().__init__()
        self.streams = Streams(levels)
        self.label = nn.Embedding(3, self.streams.out.in_channels // 2)

    def forward(self, pixels: Tensor, label: Tensor) -> Tensor:
        body, added = self.streams, self.label(label)[:, :, None, None]
        x = F.one_hot(pixels, LEVELS).permute(0, 3, 1, 2).to(self.label.weight.dtype)
        above = F.pad(body.above(F.pad(x, [1, 1, 1, 0])), [0, 0, 1, 0])[:, :, :-1]
        return body.out(torch.cat(body.levels(above + added, body.first(x) + added), 1))


class Wide(nn.Module):
    """One stream, wide enough for products of int8, half of which are on a coarser canvas."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.first, self.halved = First(channels), nn.Conv2d(channels, channels, 2, 2)
        self.middle, self.own = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 2)
        self.up, self.out = nn.ConvTranspose2d(channels, channels, 2, 2), nn.Conv2d(channels, LEVELS, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.first(F.one_hot(pixels, LEVELS).permute(0, 3, 1, 2).to(self.out.weight.dtype))
        y = F.elu(self.halved(F.pad(F.elu(x), [1, 0, 1, 0])))
        return self.out(F.elu(x + self.up(F.elu(self.own(F.pad(self.middle(y), [1, 0, 1, 0]))))))


def module(name: str) -> Halving:
    torch.manual_seed(3)
    net = Halving(Two(inner=Two()) if name == "twice" else Two((2, 1)))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2.0)  # so that draws depend on the logits
    return net.eval().requires_grad_(False)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@functools.cache
def exported(name: str, format: str = "onnx") -> Path:
    """The file to load of the verified export; read only."""
    target = Path(_folder().name) / (f"{name}.onnx" if format == "onnx" else f"{name}.pt")
    export_model(module(name), target, levels=LEVELS, shape=SHAPES[name], conditions={"label": "class:3"},
                 format=format)
    return target
