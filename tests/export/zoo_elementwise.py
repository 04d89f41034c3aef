"""Activations, gates, joins, layouts and the habits of public code."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .zoo import LEVELS, WIDTH, DownRight, First, Shape, Sketch, conv, head, hot, network


def _activated(act: Callable[[Tensor], Tensor]) -> nn.Module:
    return Sketch(lambda m, x: m.out(m.b(act(m.a(act(m.first(hot(x))))))), first=First(), a=DownRight(), b=conv(),
                  out=head())


for _name, _act in {"elu": F.elu, "relu": F.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "gelu": F.gelu,
                    "silu": F.silu, "leaky_relu": F.leaky_relu, "softplus": F.softplus, "selu": F.selu,
                    "gelu_tanh": functools.partial(F.gelu, approximate="tanh"), "hardtanh": F.hardtanh,
                    "elu_in_place": lambda x: F.elu(x, inplace=True), "elu_alpha": functools.partial(F.elu, alpha=0.3),
                    "relu_in_place": lambda x: F.relu(x, inplace=True), "square": lambda x: x ** 2, "abs": torch.abs,
                    "clamp": lambda x: x.clamp(-0.5, 0.5)}.items():
    def _make(shape: Shape, act: Callable[[Tensor], Tensor] = _act) -> nn.Module:
        return _activated(act)
    _make.__name__ = f"activation_{_name}"
    network(shapes=((3, 4),))(_make)


@network()
def concat_elu(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(F.elu(m.a(F.elu(torch.cat([y := m.first(hot(x)), -y], 1))))),
                  first=First(), a=DownRight(2 * WIDTH), out=head())


@network()
def in_place_residual(shape: Shape) -> nn.Module:
    """In-place ELU changes the residual too: the sum adds elu(x), not x."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        z = m.a(F.elu(y, inplace=True))
        z += y
        z *= 0.5
        return m.out(F.relu_(z))
    return Sketch(run, first=First(), a=DownRight(), out=head())


@network()
def in_place_masked_fill(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        y.masked_fill_(y < 0, 0.25)
        y.add_(1).clamp_(max=1.5)
        return m.out(y)
    return Sketch(run, first=First(), out=head())


@network()
def gates(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        a, b = torch.split(m.a(y), WIDTH, 1)
        c, d, e = m.b(y).split([1, 2, 3], 1)
        y = y + a * torch.sigmoid(b) + F.glu(m.a(y), 1)
        return m.out(torch.tanh(y) * torch.cat([e, d, c], 1))
    return Sketch(run, first=First(), a=DownRight(out=2 * WIDTH), b=DownRight(), out=head())


@network()
def joins(shape: Shape) -> nn.Module:
    """Unbind, stack, mean over a stacked axis, channel slices, flips of order by index."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        pairs = y.view(y.shape[0], 2, 3, *y.shape[2:])
        a, b = pairs.unbind(1)
        s = torch.stack([a, b, a * b], 2)  # [B, 3, 3, H, W]
        t = torch.stack([a, b]).sum(0)
        z = torch.cat([s.mean(2), s.amax(2), t, y[:, 0:1], y[:, -1].unsqueeze(1), s[:, :, 1]], 1)
        return m.out(F.elu(z))
    return Sketch(run, first=First(), out=head(14))


@network()
def layer_norm_by_hand(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        z = (y - y.mean(1, keepdim=True)) / torch.sqrt(y.pow(2).sum(1, keepdim=True) + 0.1)
        return m.out(m.next(z))
    return Sketch(run, first=First(), next=DownRight(), out=head())


@network()
def layer_norm_over_channels(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(m.norm(m.first(hot(x)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)),
                  first=First(), norm=nn.LayerNorm(WIDTH), out=head())


@network()
def channel_softmax(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(m.next(torch.softmax(m.first(hot(x)), 1))), first=First(), next=DownRight(),
                  out=head())


@network()
def batch_norm(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(F.relu(m.n2(m.a(F.relu(m.n1(m.first(hot(x)))))))), first=First(),
                  n1=nn.BatchNorm2d(WIDTH), a=DownRight(), n2=nn.BatchNorm2d(WIDTH), out=head())


@network()
def inactive_dropout(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(m.drop(m.first(hot(x)))), first=First(), drop=nn.Dropout2d(0.5), out=head())


@network()
def linear_on_permuted(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x)).permute(0, 2, 3, 1)
        return m.out(F.elu(m.lin(F.elu(y)) + m.plain(y))).permute(0, 3, 1, 2)
    return Sketch(run, first=First(), lin=nn.Linear(WIDTH, 4), plain=nn.Linear(WIDTH, 4, bias=False),
                  out=nn.Linear(4, LEVELS))


@network()
def linear_on_a_sequence(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        seq = m.lin(y.flatten(2).transpose(1, 2))  # [B, P, C]
        back = seq.transpose(1, 2).reshape(y.shape[0], -1, *y.shape[2:])
        return m.out(m.next(back))
    return Sketch(run, first=First(), lin=nn.Linear(WIDTH, WIDTH), next=DownRight(), out=head())


@network(shapes=((4, 5), (2, 3)))
def einsum_linear(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        z = torch.einsum("bchw,dc->bdhw", y, m.a.weight)
        w = torch.einsum("bchw,cd->bhwd", z, m.b.weight).permute(0, 3, 1, 2)
        return m.out(F.elu(w))
    return Sketch(run, first=First(), a=nn.Linear(WIDTH, WIDTH), b=nn.Linear(WIDTH, WIDTH), out=head())


@network()
def matmul_from_the_left(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        z = torch.matmul(m.a.weight, y.flatten(2)).view(y.shape[0], 4, *y.shape[2:])
        return m.out(F.elu(z))
    return Sketch(run, first=First(), a=nn.Linear(WIDTH, 4), out=head(4))


@network()
def coordinates(shape: Shape) -> nn.Module:
    """Positions made in the forward, expanded along the batch."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        rows = ((torch.arange(shape[0], dtype=y.dtype) - shape[0] / 2) / shape[0]).view(1, 1, -1, 1)
        columns = ((torch.arange(shape[1], dtype=y.dtype) - shape[1] / 2) / shape[1]).view(1, 1, 1, -1)
        grid = torch.cat([rows.expand(x.shape[0], 1, *shape), columns.expand(x.shape[0], 1, *shape)], 1)
        y = torch.cat([y, grid.type_as(y)], 1)
        return m.out(F.elu(m.next(y)) * (1 + rows) + columns)
    return Sketch(run, first=First(), next=DownRight(WIDTH + 2), out=head())


class _Cached(nn.Module):
    """A background made once per size by a cache, outputs in a tuple, a buffer that scales, casts of masks."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.next, self.out = First(), DownRight(WIDTH + 1), head()
        self.register_buffer("scale", torch.rand(WIDTH + 1, 1, 1))

    @staticmethod
    @functools.cache
    def background(height: int, width: int) -> Tensor:
        return torch.arange(height * width).view(1, 1, height, width).float() / (height * width)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        cache: dict[str, Tensor] = {}
        y = self.first(hot(x))
        y = torch.cat([y, self.background(*x.shape[1:]).type_as(y).expand(x.shape[0], -1, -1, -1)], 1)
        y = y * self.scale
        return self.out(F.elu(self.next(y), inplace=True)), cache


class _First(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = _Cached()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[0]


@network()
def cached_background(shape: Shape) -> nn.Module:
    return _First()


class _WeightNormed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = First()
        self.old = torch.nn.utils.weight_norm(conv(kernel=(2, 2)))  # type: ignore[no-untyped-call]
        self.new = torch.nn.utils.parametrizations.weight_norm(conv(kernel=(2, 2)))
        self.out = head()

    def forward(self, x: Tensor) -> Tensor:
        y = F.elu(self.first(hot(x)))
        y = F.elu(self.old(F.pad(y, [1, 0, 1, 0])))
        return self.out(self.new(F.pad(y, [1, 0, 1, 0])))


@network()
def weight_normed(shape: Shape) -> nn.Module:
    return _WeightNormed()


@network()
def one_hot_by_hand(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        one_hot = (x[:, None] == torch.arange(LEVELS).view(1, -1, 1, 1)).to(torch.float64)
        return m.out(m.first(one_hot))
    return Sketch(run, first=First(), out=head())


def _added(biased: bool) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        return m.out(F.elu(m.left(F.elu(y)) + m.right(torch.tanh(m.middle(y)))))
    return Sketch(run, first=First(), left=conv(WIDTH, 5), middle=conv(WIDTH, 3),
                  right=conv(3, 5, bias=biased), out=head(5))


@network()
def products_added(shape: Shape) -> nn.Module:
    """Two layers of the pixel's own values, added."""
    return _added(True)


@network()
def products_added_one_without_bias(shape: Shape) -> nn.Module:
    return _added(False)
