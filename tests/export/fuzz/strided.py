"""Layers of random networks on coarser canvases, and leaks of such: down by strides, some layers there, and up again.

A coarse place sees what the first pixel of its block may see: kernels end at it. A pixel sees the coarse place of its
block and those before.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..zoo import Shape, conv
from .causal import STEPS, WIDTHS, Builder, Sees, Value
from .layers import ACTS
from .leaks import PLANTS, past

DOWN = ("convolution", "slices", "slices of the convolution")
UP = ("transposed", "nearest", "nearest and convolution")


class Coarse(nn.Module):
    """`stride` down and up. `ahead`: the kernel that leads down may see all columns of its last row, or (a leak) the
    block itself."""

    def __init__(self, into: int, out: int, stride: tuple[int, int], down: str, up: str, kernel: tuple[int, int],
                 act: str, *, ahead: bool = False, inner: nn.Module | None = None, bias: bool = True) -> None:
        super().__init__()
        self.stride, self.how, self.up, self.act, self.inner = stride, (down, up), up, ACTS[act], inner
        self.pads = [kernel[1] - 1, 1 if ahead else 0, kernel[0] - 1, 0]
        step = stride if down == "convolution" else 1
        self.down = nn.Conv2d(into, out, (kernel[0], kernel[1] + ahead), stride=step, bias=bias)
        self.near = conv(out, out, (2, 2))
        rise = (stride[0] + (kernel[0] > 1), stride[1] + (kernel[1] > 1))
        self.rise = conv(out, out) if up != "transposed" else \
            nn.ConvTranspose2d(out, out, rise, stride=stride, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        (sy, sx), (h, w) = self.stride, x.shape[2:]
        if self.how[0] == "slices":
            y = self.down(F.pad(x, self.pads))[:, :, ::sy, ::sx]
        elif self.how[0] == "convolution":
            y = self.down(F.pad(x, self.pads))
        else:
            y = self.down(F.pad(self.act(x), self.pads))[:, :, ::sy][..., ::sx]
        y = self.near(F.pad(self.act(y), [1, 0, 1, 0]))
        if self.inner is not None:
            y = y + self.inner(y)
        if self.up == "transposed":
            return self.rise(y)[:, :, :h, :w]
        y = F.interpolate(y, scale_factor=(float(sy), float(sx)), mode="nearest")[:, :, :h, :w]
        return self.rise(self.act(y)) if self.up == "nearest" else self.rise(F.pad(y, [0, 0, 0, 0])) * 0.5 + y


def _strides(shape: Shape) -> list[Shape]:
    """Those of which a canvas is a multiple."""
    return [(sy, sx) for sy, sx in ((2, 2), (1, 2), (2, 1)) if not shape[0] % sy and not shape[1] % sx]


def coarse(build: Builder, x: Value) -> Value:
    choices, out = build.choices, build.choices.of(WIDTHS)
    stride = choices.of(_strides(build.shape) or [(1, 1)])  # on a canvas of no multiple, a layer as any other
    down, up, act = choices.of(DOWN), choices.of(UP), choices.of(tuple(ACTS))
    kernel = choices.of(((1, 1), (2, 2), (1, 2), (2, 1), (2, 3), (3, 2)))
    ahead = x.sees <= Sees.ABOVE and choices.chance(2)
    smaller = _strides((build.shape[0] // stride[0], build.shape[1] // stride[1]))
    inner = Coarse(out, out, choices.of(smaller), choices.of(DOWN), choices.of(UP), (2, 2), act) \
        if smaller and choices.chance(3) else None
    layer = Coarse(x.width, out, stride, down, up, kernel, act, ahead=ahead, inner=inner, bias=not choices.chance(3))
    told = f", in it {inner.stride} by {inner.how}" if inner else ""
    return build.add(layer, (x,), out, x.sees, f"{kernel}{' and ahead' if ahead else ''} by {stride}, {down}, {up}, "
                                               f"{act}{told}")


class Blocks(nn.Module):
    """Whole blocks in every pixel of theirs: the first one sees what comes later in it."""

    def __init__(self, width: int, stride: tuple[int, int], up: str) -> None:
        super().__init__()
        self.stride = stride
        self.down = nn.Conv2d(width, width, stride, stride=stride)
        self.rise = nn.ConvTranspose2d(width, width, stride, stride=stride) if up == "transposed" else None

    def forward(self, x: Tensor) -> Tensor:
        (sy, sx), (h, w) = self.stride, x.shape[2:]
        y = torch.tanh(self.down(F.pad(x, [0, -w % sx, 0, -h % sy])))
        y = self.rise(y) if self.rise is not None else F.interpolate(y, scale_factor=(float(sy), float(sx)))
        return y[:, :, :h, :w]


def a_block_in_its_first_pixel(build: Builder) -> Value:
    x, stride = past(build), build.choices.of(((2, 2), (1, 2), (2, 1), (1, 3)))
    up = build.choices.of(("transposed", "nearest"))
    return build.add(Blocks(x.width, stride, up), (x,), x.width, x.sees, f"blocks of {stride}, {up}")


STEPS.append(lambda build: coarse(build, build.recent()))
PLANTS.append(a_block_in_its_first_pixel)
