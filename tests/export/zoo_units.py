"""Axes of one element: canvases of one row or one column, widths of 1, one key, one filter."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.export.tracing.trace import InputSpec

from .zoo import LEVELS, WIDTH, DownRight, First, Shape, Sketch, conv, head, hot, leak, network, right
from .zoo_attention import (
    Attention,
    PooledAttention,
    attending,
    blocks_past,
    exp_with_masked_maximum,
    inclusive,
    plain_fill,
    soft_ratio,
    start_mask,
    strict,
    zero_by_mask,
)

LINES = ((4, 5), (1, 5), (5, 1), (1, 2), (2, 1))


@network(shapes=LINES)
def keys_and_values_of_width_one(shape: Shape) -> nn.Module:
    return attending(Attention(strict(shape), start_mask, key=1, value=1), 1)


@network(shapes=LINES)
def heads_of_width_one(shape: Shape) -> nn.Module:
    return attending(Attention(strict(shape), exp_with_masked_maximum, heads=3, key=3, value=3), 3)


@network(shapes=LINES)
def inclusive_of_width_one(shape: Shape) -> nn.Module:
    return attending(Attention(inclusive(shape), plain_fill, key=4, value=1), 1)


@network(shapes=((4, 5), (1, 5), (5, 1), (1, 2)))
def one_filter(shape: Shape) -> nn.Module:
    """Every channel axis has one element: features, keys and values."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        y = y + F.elu(m.next(y))
        y = y + m.attention(y, m.raw(hot(x)))
        return m.out(F.elu(m.last(y)))
    return Sketch(run, first=First(1), next=DownRight(1, 1), raw=conv(LEVELS, 1), last=DownRight(1, 1), out=head(1),
                  attention=Attention(strict(shape), start_mask, key=1, value=1, into=1, keys_from=1))


@network(shapes=((2, 2), (2, 4), (4, 2), (6, 2)))
def pooled_to_few_keys(shape: Shape) -> nn.Module:
    """Pooling leaves a grid of one key, of one row or of one column."""
    return attending(PooledAttention(blocks_past(shape), soft_ratio))


@network(shapes=((2, 2), (2, 4), (4, 2)))
def pooled_keys_of_width_one(shape: Shape) -> nn.Module:
    return attending(PooledAttention(blocks_past(shape), soft_ratio, key=1, value=1), 1)


@network(shapes=((2, 2), (2, 4)))
def pooled_keys_first(shape: Shape) -> nn.Module:
    """Keys times queries, everything transposed."""
    mask = blocks_past(shape).T

    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        q, k, v = m.q(y).flatten(2), F.max_pool2d(m.k(y), 2).flatten(2), F.max_pool2d(m.v(y), 2).flatten(2)
        weights = torch.exp(torch.bmm(k.transpose(1, 2), q)) * mask
        weights = weights / (weights.sum(1, keepdim=True) + 1e-6)
        return m.out(F.elu(y + torch.bmm(v, weights).view_as(y)))
    return Sketch(run, first=First(), q=conv(out=3), k=conv(out=3), v=conv(), out=head())


@network(shapes=LINES)
def einsum_of_width_one(shape: Shape) -> nn.Module:
    """Scores of width 1 are an elementwise product of every query with every key."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        q, k, v = (f(y).flatten(2) for f in (m.q, m.k, m.v))  # [B, 1, P]
        weights = start_mask(torch.einsum("bdq,bdp->bqp", q, k), strict(shape))
        return m.out(F.elu(y + torch.einsum("bqp,bdp->bdq", weights, v).view_as(y)))
    return Sketch(run, first=First(), q=conv(out=1), k=conv(out=1), v=conv(), out=head())


@network(shapes=LINES)
def outer_product(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        q, k, v = (f(y).flatten(2) for f in (m.q, m.k, m.v))
        weights = zero_by_mask(q[:, 0, :, None] * k[:, 0, None, :], strict(shape))
        return m.out(F.elu(y + (weights @ v.transpose(1, 2)).transpose(1, 2).reshape(y.shape)))
    return Sketch(run, first=First(), q=conv(out=1), k=conv(out=1), v=conv(), out=head())


@network(shapes=LINES)
def channels_last(shape: Shape) -> nn.Module:
    """Linear layers of width 1 on [B, H, W, 1] and on [B, P, 1], a gate of one channel over several."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x))).permute(0, 2, 3, 1)
        y = y * torch.sigmoid(m.gate(y))
        seq = m.wide(torch.tanh(m.narrow(y.reshape(y.shape[0], -1, WIDTH))))
        return m.out(m.next((seq.reshape(y.shape) + y).permute(0, 3, 1, 2)))
    return Sketch(run, first=First(), gate=nn.Linear(WIDTH, 1), narrow=nn.Linear(WIDTH, 1), wide=nn.Linear(1, WIDTH),
                  next=DownRight(), out=head())


@network(shapes=LINES)
def shifted_by_concatenation(shape: Shape) -> nn.Module:
    """Zeros before all rows but the last: on one row that is zeros before nothing."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.a(hot(x))
        z = torch.cat([torch.zeros_like(y[:, :, :1]), y[:, :, :-1]], 2)
        w = torch.cat([torch.zeros_like(y[:, :, :, :1]), y[:, :, :, :-1]], 3)
        return m.out(F.elu(m.b(z) + m.c(w)))
    return Sketch(run, a=conv(LEVELS), b=conv(kernel=(1, 3), padding=(0, 1)), c=conv(), out=head())


@network(shapes=((4, 5), (1, 5), (5, 1)))
def padded_lines(shape: Shape) -> nn.Module:
    """Pads and crops after everything was flattened and unflattened."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        y = y.flatten(2).transpose(1, 2).reshape(-1, *shape, WIDTH)  # [B, H, W, C]
        below = F.pad(y, [0, 0, 0, 0, 1, 0])[:, : shape[0]].permute(0, 3, 1, 2)
        beside = F.pad(y, [0, 0, 1, 0])[:, :, : shape[1]].permute(0, 3, 1, 2)
        return m.out(m.next(below + beside) + m.one(F.pad(y.mean(3)[:, None], [1, 0, 0, 0])[..., :-1]))
    return Sketch(run, first=First(), next=DownRight(), one=conv(1), out=head())


@network(shapes=LINES)
def channel_softmax_of_one(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        return m.out(y * torch.softmax(m.one(y), 1) + torch.log_softmax(m.one(y), 1) + m.one(y).sum(1, keepdim=True))
    return Sketch(run, first=First(), one=conv(out=1), out=head())


def line(shape: Shape) -> tuple[InputSpec, ...]:
    return (InputSpec("line", (2, 1, shape[1]), torch.float64),)


def spot(shape: Shape) -> tuple[InputSpec, ...]:
    return (InputSpec("spot", (1, 1), torch.int64, LEVELS),)


@network(conditions=line, shapes=LINES)
def map_of_one_row(shape: Shape) -> nn.Module:
    """A condition of one row, added to every row and, expanded, joined to the features."""
    def run(m: Sketch, x: Tensor, c: Tensor) -> Tensor:
        c = m.c(c)
        y = F.elu(m.first(hot(x)) + c)
        return m.out(F.elu(m.next(torch.cat([y, c.expand(-1, -1, *shape)], 1))))
    return Sketch(run, c=conv(2), first=First(), next=DownRight(2 * WIDTH), out=head())


@network(conditions=spot, shapes=((2, 2), (4, 5), (1, 5), (5, 1)))
def codes_on_a_grid_of_one(shape: Shape) -> nn.Module:
    """One code, upsampled, broadcast, and padded by a kernel of its own."""
    def run(m: Sketch, x: Tensor, c: Tensor) -> Tensor:
        c = F.elu(m.look(hot(c)))
        y = F.elu(m.first(hot(x)) + F.interpolate(c, size=shape, mode="nearest"))
        return m.out(F.elu(m.next(y * torch.sigmoid(c))))
    return Sketch(run, look=conv(LEVELS, kernel=3, padding=1), first=First(), next=DownRight(), out=head())


@network(shapes=LINES, conditions=lambda shape: (InputSpec("label", (), torch.int64, 3),))
def label_laid_out(shape: Shape) -> nn.Module:
    """A label as a map of one channel on a canvas of one line."""
    def run(m: Sketch, x: Tensor, y: Tensor) -> Tensor:
        c = m.h(y).view(-1, 1, *shape)
        return m.out(F.elu(m.first(hot(x)) + m.c(c)))
    return Sketch(run, h=nn.Embedding(3, math.prod(shape)), c=conv(1, kernel=3, padding=1), first=First(), out=head())


@network(shapes=LINES)
def queries_of_one_head_each(shape: Shape) -> nn.Module:
    """Several heads of queries over keys and values of one."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        q = m.q(y).view(y.shape[0], 2, 3, -1).transpose(2, 3)
        k, v = (f(y).flatten(2).transpose(1, 2)[:, None] for f in (m.k, m.v))
        mixed = start_mask(q @ k.transpose(2, 3), strict(shape)) @ v  # [B, 2, P, 3]
        return m.out(F.elu(y + mixed.transpose(2, 3).reshape(y.shape)))
    return Sketch(run, first=First(), q=conv(), k=conv(out=3), v=conv(out=3), out=head())


@leak(ModelError, "no logit on the (1, 1) canvas depends on a pixel", shape=(1, 1))
def one_position(shape: Shape) -> nn.Module:
    """There is nothing to be autoregressive about."""
    return Sketch(lambda m, x: m.out(F.elu(m.next(m.first(hot(x))) + right(m.next(hot(x)[:, :1].expand(
        -1, WIDTH, -1, -1))))), first=First(), next=DownRight(), out=head())


@leak(ModelError, "no logit on the (1, 1) canvas depends on a pixel", shape=(1, 1))
def attention_at_one_position(shape: Shape) -> nn.Module:
    return attending(Attention(strict(shape), start_mask, key=1, value=1), 1)


@leak(ModelError, "no logit on the (1, 4) canvas depends on a pixel", shape=(1, 4))
def one_row_that_sees_rows_above_only(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(m.a(F.pad(hot(x), [1, 1, 1, 0])[:, :, :-1])),
                  a=conv(LEVELS, kernel=(1, 3)), out=head())
