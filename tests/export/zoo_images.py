"""Networks over images: pixels are numbers in several channels, not codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.distributions import LogisticMixture
from pixelsnail_infer.export.tracing.trace import InputSpec

from .zoo import WIDTH, DownRight, First, Shape, Sketch, conv, network
from .zoo_attention import Attention, exp_with_masked_maximum, strict

CHANNELS = 3
RGB, GREY = LogisticMixture(n_mix=1, channels=CHANNELS), LogisticMixture(n_mix=2, channels=1)


def rgb(shape: Shape) -> InputSpec:
    return InputSpec("pixels", (CHANNELS, *shape), torch.float64)


def grey(shape: Shape) -> InputSpec:
    return InputSpec("pixels", (1, *shape), torch.float64)


@network(pixels=rgb, distribution=RGB)
def rgb_convolutions(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        x = torch.cat([x * 2 - 1, torch.ones(x.shape[0], 1, *shape, dtype=x.dtype)], 1)
        return m.out(F.elu(m.next(F.elu(m.first(x)))))
    return Sketch(run, first=First(into=CHANNELS + 1), next=DownRight(), out=conv(out=RGB.parameters))


@network(pixels=rgb, distribution=LogisticMixture(n_mix=2, channels=CHANNELS, round=True), shapes=((2, 3),))
def rgb_rounded(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(F.elu(m.first(x))), first=First(into=CHANNELS), out=conv(out=20))


@network(pixels=grey, distribution=GREY)
def grey_convolutions(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(F.elu(m.next(F.elu(m.first(x))))), first=First(into=1), next=DownRight(),
                  out=conv(out=GREY.parameters))


class _Gated(nn.Module):
    """A gated residual block of two layers, with an auxiliary input and a vector as the original has them."""

    def __init__(self, width: int, spatial: bool, aux: int = 0) -> None:
        super().__init__()
        make = DownRight if spatial else conv
        self.a, self.b, self.h = make(width, width), make(width, 2 * width), nn.Linear(4, 2 * width, bias=False)
        self.aux = conv(aux, width) if aux else None

    def forward(self, x: Tensor, h: Tensor, aux: Tensor | None = None) -> Tensor:
        y = self.a(F.elu(x))
        if self.aux is not None and aux is not None:
            y = y + self.aux(F.elu(aux))
        y = self.b(F.elu(y)) + self.h(h)[:, :, None, None]
        a, b = torch.chunk(y, 2, 1)
        return x + a * torch.sigmoid(b)


def vector(shape: Shape) -> tuple[InputSpec, ...]:
    return (InputSpec("h", (4,), torch.float64),)


@network(pixels=rgb, distribution=RGB, conditions=vector, shapes=((4, 5), (4, 1)))
def original_pixelsnail(shape: Shape) -> nn.Module:
    """Down-right blocks, raw pixels in keys and values, coordinates, one head, a vector in every block."""
    wide = CHANNELS + WIDTH + 2

    def run(m: Sketch, x: Tensor, h: Tensor) -> Tensor:
        x = x * 2 - 1
        grid = m.grid.expand(x.shape[0], -1, -1, -1)
        u = m.first(torch.cat([x, torch.ones_like(x[:, :1])], 1))
        for res, key, query, attention, out in zip(m.res, m.keys, m.queries, m.attentions, m.outs, strict=True):
            y = res(u, h)
            source = key(torch.cat([x, y, grid], 1), h)
            mixed = attention(query(torch.cat([y, grid], 1), h), source)
            u = out(y, h, mixed)
        return m.out(F.elu(u))

    def several(make: object) -> nn.ModuleList:
        return nn.ModuleList(make() for _ in range(2))  # type: ignore[operator]

    sketch = Sketch(
        run, first=First(into=CHANNELS + 1), res=several(lambda: _Gated(WIDTH, True)),
        keys=several(lambda: _Gated(wide, False)), queries=several(lambda: _Gated(WIDTH + 2, False)),
        attentions=several(lambda: Attention(strict(shape), exp_with_masked_maximum, key=3, value=5, into=WIDTH + 2,
                                             keys_from=wide)),
        outs=several(lambda: _Gated(WIDTH, False, 5)), out=conv(out=RGB.parameters))
    rows, columns = ((torch.arange(n) - n / 2) / n for n in shape)
    sketch.register_buffer("grid", torch.stack([rows[:, None].expand(shape), columns[None].expand(shape)])[None])
    return sketch
