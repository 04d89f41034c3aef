"""Causal attention, masked in every way that public code does it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .zoo import LEVELS, WIDTH, DownRight, First, Shape, Sketch, conv, down, head, hot, network, right

Weigh = Callable[[Tensor, Tensor], Tensor]  # scores [.., P, P] and mask (True: may be seen) -> weights


def strict(shape: Shape) -> Tensor:
    """True where a query may see a key: earlier positions only."""
    return torch.ones(shape[0] * shape[1], shape[0] * shape[1]).tril(-1).bool()


def inclusive(shape: Shape) -> Tensor:
    return torch.ones(shape[0] * shape[1], shape[0] * shape[1]).tril().bool()


def rows_above(shape: Shape) -> Tensor:
    row = torch.arange(shape[0] * shape[1]) // shape[1]
    return row[None] < row[:, None]


class Attention(nn.Module):
    """Attention of [B, C, H, W] queries over keys and values of their own inputs."""

    def __init__(self, mask: Tensor, weigh: Weigh, *, heads: int = 1, key: int = 4, value: int = 4, into: int = WIDTH,
                 keys_from: int = WIDTH) -> None:
        super().__init__()
        self.heads, self.weigh, self.value = heads, weigh, value
        self.query, self.key, self.val = conv(into, key), conv(keys_from, key), conv(keys_from, value)
        self.register_buffer("mask", mask)

    def split(self, x: Tensor) -> Tensor:
        """[B, K*d, H, W] -> [B, K, P, d]."""
        return x.view(x.shape[0], self.heads, -1, x.shape[2] * x.shape[3]).transpose(2, 3)

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        q, k, v = self.split(self.query(x)), self.split(self.key(source)), self.split(self.val(source))
        scores = torch.matmul(q, k.transpose(2, 3)) / math.sqrt(q.shape[-1])
        out = torch.matmul(self.weigh(scores, self.mask), v)
        return out.transpose(2, 3).reshape(x.shape[0], self.value, *x.shape[2:])


def attending(attention: nn.Module, value: int = 4) -> nn.Module:
    """A first layer, attention over its features, and a convolution that reads the result at several positions."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        return m.out(F.elu(m.next(torch.cat([y, m.attention(y, y)], 1))))
    return Sketch(run, first=First(), attention=attention, next=DownRight(WIDTH + value), out=head())


def start_mask(scores: Tensor, mask: Tensor) -> Tensor:
    """-1e4, and query 0 multiplied to exactly 0 afterwards."""
    start = torch.ones(mask.shape[0]).unsqueeze(1)
    start[0] = 0
    return torch.softmax(scores.masked_fill(mask == 0, -1e4), -1) * start.type_as(scores)


def additive_infinity(scores: Tensor, mask: Tensor) -> Tensor:
    bias = torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, float("-inf"))
    return torch.softmax(scores + bias, -1)


def nan_to_zero(scores: Tensor, mask: Tensor) -> Tensor:
    return torch.nan_to_num(torch.softmax(scores.masked_fill(~mask, float("-inf")), -1))


def nan_by_where(scores: Tensor, mask: Tensor) -> Tensor:
    weights = torch.softmax(scores.masked_fill(~mask, float("-inf")), -1)
    return torch.where(torch.isnan(weights), torch.zeros_like(weights), weights)


def zero_by_mask(scores: Tensor, mask: Tensor) -> Tensor:
    return torch.softmax(scores.masked_fill(~mask, -1e10), -1).masked_fill(~mask, 0)


def additive_billion(scores: Tensor, mask: Tensor) -> Tensor:
    return torch.softmax(scores - 1e9 * (1 - mask.type_as(scores)), -1) * mask


def float_mask(scores: Tensor, mask: Tensor) -> Tensor:
    return torch.softmax(scores * mask.type_as(scores) - 1e10 * (1 - mask.type_as(scores)), -1) * mask.type_as(scores)


def exp_with_future_maximum(scores: Tensor, mask: Tensor) -> Tensor:
    top = scores.max(-1, keepdim=True)[0]
    weights = torch.exp(scores - top) * mask
    return weights / (weights.sum(-1, keepdim=True) + 1e-6)


def exp_with_masked_maximum(scores: Tensor, mask: Tensor) -> Tensor:
    """The original's: masked first, so only row 0's maximum sees the future, times 0."""
    scores = scores - (1 - mask.type_as(scores)) * 1e10
    weights = torch.exp(scores - scores.amax(-1, keepdim=True)) * mask
    return weights / (weights.sum(-1, keepdim=True) + 1e-6)


def exp_without_maximum(scores: Tensor, mask: Tensor) -> Tensor:
    weights = torch.exp(scores) * mask
    return weights / (weights.sum(-1, keepdim=True) + 1e-6)


def plain_fill(scores: Tensor, mask: Tensor) -> Tensor:
    return torch.softmax(scores.masked_fill(~mask, float("-inf")), -1)


STRICT = (start_mask, nan_to_zero, nan_by_where, zero_by_mask, additive_billion, float_mask, exp_with_masked_maximum,
          exp_without_maximum)
INCLUSIVE = (plain_fill, additive_infinity, zero_by_mask, exp_without_maximum)

for _weigh in STRICT:
    def _strict(shape: Shape, weigh: Weigh = _weigh) -> nn.Module:
        return attending(Attention(strict(shape), weigh, heads=2))
    _strict.__name__ = f"strict_{_weigh.__name__}"
    network(shapes=((4, 5), (2, 3), (4, 1)))(_strict)

for _weigh in INCLUSIVE:
    def _inclusive(shape: Shape, weigh: Weigh = _weigh) -> nn.Module:
        return attending(Attention(inclusive(shape), weigh))
    _inclusive.__name__ = f"inclusive_{_weigh.__name__}"
    network(shapes=((4, 5), (2, 3), (4, 1)))(_inclusive)


@network()
def widths_that_differ(shape: Shape) -> nn.Module:
    return attending(Attention(strict(shape), start_mask, heads=2, key=4, value=6), 6)


@network(shapes=((4, 5), (4, 1)))
def raw_pixels_in_keys(shape: Shape) -> nn.Module:
    """Keys and values see the pixel itself: they exist only once it is drawn."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        kv = torch.cat([hot(x), y], 1)
        return m.out(F.elu(m.next(torch.cat([y, m.attention(y, m.mix(kv))], 1))))
    return Sketch(run, first=First(), mix=conv(LEVELS + WIDTH), next=DownRight(WIDTH + 4),
                  attention=Attention(strict(shape), exp_without_maximum, heads=1), out=head())


@network()
def one_hot_values(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        return m.out(F.elu(m.next(torch.cat([y, m.attention(y, hot(x))], 1))))
    return Sketch(run, first=First(), next=DownRight(WIDTH + 4), out=head(),
                  attention=Attention(strict(shape), start_mask, heads=2, keys_from=LEVELS))


@network(shapes=((4, 5), (4, 1)))
def two_that_share_a_mask(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        y = m.a(y, y)
        return m.out(F.elu(m.next(m.b(y, y) + y)))
    mask = strict(shape)
    return Sketch(run, first=First(), a=Attention(mask, start_mask, heads=2), next=DownRight(4), out=head(),
                  b=Attention(mask, start_mask, into=4, keys_from=4))


@network(shapes=((4, 5), (4, 1)))
def over_rows_above(shape: Shape) -> nn.Module:
    """Queries see rows above only, and so do the keys: the row graph computes all of it."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        v = F.elu(m.v(F.pad(hot(x), [1, 1, 2, 0])[:, :, : x.shape[1] + 1]))
        return m.out(F.elu(m.next(m.attention(v, v)) + m.first(hot(x))))
    return Sketch(run, v=conv(LEVELS, kernel=(2, 3)), next=conv(4), first=First(), out=head(),
                  attention=Attention(rows_above(shape), zero_by_mask))


@network(shapes=((4, 5), (2, 3)))
def shifted_queries(shape: Shape) -> nn.Module:
    """Queries, keys and values of features that were shifted after their bias."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = right(F.elu(m.first(hot(x))))
        z = down(F.elu(m.first(hot(x))))
        return m.out(F.elu(m.a(y, y) + m.b(z, y)))
    return Sketch(run, first=First(), out=head(), a=Attention(strict(shape), start_mask, value=WIDTH),
                  b=Attention(strict(shape), nan_to_zero, value=WIDTH))


@network(shapes=((4, 5), (2, 3), (4, 1)))
def shifted_attention(shape: Shape) -> nn.Module:
    """What attention gives is shifted: an inclusive one over raw pixels is causal then."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        return m.out(F.elu(right(m.attention(m.mix(hot(x)) + y, hot(x))) + y))
    return Sketch(run, first=First(), mix=conv(LEVELS), out=head(),
                  attention=Attention(inclusive(shape), plain_fill, value=WIDTH, keys_from=LEVELS))


@network(shapes=((4, 5), (2, 3)))
def over_rows_up_to_its_own(shape: Shape) -> nn.Module:
    """Keys of the query's whole row, later columns too, which see rows above only: known before the row starts."""
    row = torch.arange(shape[0] * shape[1]) // shape[1]

    def run(m: Sketch, x: Tensor) -> Tensor:
        v = F.elu(m.v(F.pad(hot(x), [1, 1, 2, 0])[:, :, : x.shape[1] + 1]))
        y = m.first(hot(x))
        return m.out(F.elu(m.own(v, v) + m.other(y, v) + y))
    attentions = {name: Attention(row[None] <= row[:, None], plain_fill, value=WIDTH) for name in ("own", "other")}
    return Sketch(run, v=conv(LEVELS, kernel=(2, 3)), first=First(), out=head(), **attentions)


@network()
def keys_first(shape: Shape) -> nn.Module:
    """k^T q, softmax over the first axis, values times weights: everything transposed, as in self-attention GANs."""
    mask = strict(shape)

    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        q, k, v = (f(y).flatten(2) for f in (m.q, m.k, m.v))  # [B, d, P]
        scores = torch.bmm(k.permute(0, 2, 1), q)  # [B, keys, queries]
        weights = torch.softmax(scores.masked_fill(~mask.T, -1e4), 1).masked_fill(~mask.T, 0)
        return m.out(F.elu(y + torch.bmm(v, weights).view_as(y)))
    return Sketch(run, first=First(), q=conv(out=3), k=conv(out=3), v=conv(), out=head())


@network()
def values_first(shape: Shape) -> nn.Module:
    """q^T k, then v times the weights transposed."""
    mask = strict(shape)

    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        q, k, v = (f(y).flatten(2) for f in (m.q, m.k, m.v))
        weights = start_mask(torch.bmm(q.permute(0, 2, 1), k), mask)
        return m.out(F.elu(y + torch.bmm(v, weights.permute(0, 2, 1)).view_as(y)))
    return Sketch(run, first=First(), q=conv(out=3), k=conv(out=3), v=conv(), out=head())


def _sequence(m: Sketch, y: Tensor) -> list[Tensor]:
    """Queries, keys and values [B, 2, P, 3]."""
    return [f(y).view(y.shape[0], 2, 3, -1).transpose(2, 3) for f in (m.q, m.k, m.v)]


def _dot_product(options: Callable[[], dict[str, object]]) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        mixed = F.scaled_dot_product_attention(*_sequence(m, y), **options())  # type: ignore[arg-type]
        return m.out(F.elu(m.next(y + mixed.transpose(2, 3).reshape(y.shape))))
    return Sketch(run, first=First(), q=conv(), k=conv(), v=conv(), next=DownRight(), out=head())


@network()
def sdpa_causal(shape: Shape) -> nn.Module:
    return _dot_product(lambda: {"is_causal": True})


@network()
def sdpa_bool_mask(shape: Shape) -> nn.Module:
    return _dot_product(lambda: {"attn_mask": inclusive(shape)})


@network()
def sdpa_strict_bool_mask(shape: Shape) -> nn.Module:
    """A fully masked query gives exactly 0 here."""
    return _dot_product(lambda: {"attn_mask": strict(shape)})


@network()
def sdpa_float_mask(shape: Shape) -> nn.Module:
    return _dot_product(lambda: {"attn_mask": torch.full(inclusive(shape).shape, float("-inf"),
                                                         dtype=torch.float64).triu(1)})


@network()
def multihead_attention(shape: Shape) -> nn.Module:
    mask = ~inclusive(shape)

    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        seq = y.flatten(2).transpose(1, 2)
        mixed, _ = m.attention(seq, seq, seq, attn_mask=mask, need_weights=False)
        return m.out(F.elu(y + mixed.transpose(1, 2).reshape(y.shape)))
    return Sketch(run, first=First(), attention=nn.MultiheadAttention(WIDTH, 2, batch_first=True), out=head())


@network()
def einsum_attention(shape: Shape) -> nn.Module:
    mask = strict(shape)

    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        q, k, v = (f(y).view(y.shape[0], 2, 3, -1) for f in (m.q, m.k, m.v))  # [B, K, d, P]
        weights = start_mask(torch.einsum("bkdq,bkdp->bkqp", q, k), mask)
        mixed = torch.einsum("bkqp,bkdp->bkdq", weights, v)
        return m.out(F.elu(y + mixed.reshape(y.shape)))
    return Sketch(run, first=First(), q=conv(), k=conv(), v=conv(), out=head())


@network()
def position_bias(shape: Shape) -> nn.Module:
    """A learned number for every query and key, added to the scores of each head."""
    places = shape[0] * shape[1]

    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        q, k, v = _sequence(m, y)
        scores = q @ k.mT + m.bias
        mixed = zero_by_mask(scores, m.mask) @ v
        return m.out(F.elu(y + mixed.transpose(2, 3).reshape(y.shape)))
    sketch = Sketch(run, first=First(), q=conv(), k=conv(), v=conv(), out=head())
    sketch.bias = nn.Parameter(torch.randn(2, places, places))
    sketch.register_buffer("mask", strict(shape))
    return sketch


class PooledAttention(Attention):
    """Keys and values are the maxima of 2x2 blocks; a block counts only when all of it is past."""

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        key, value = F.max_pool2d(self.key(source), 2), F.max_pool2d(self.val(source), 2)
        q, k, v = self.split(self.query(x)), self.split(key), self.split(value)
        scores = torch.matmul(q, k.transpose(2, 3)) / math.sqrt(q.shape[-1])
        out = torch.matmul(self.weigh(scores, self.mask), v)
        return out.transpose(2, 3).reshape(x.shape[0], self.value, *x.shape[2:])


def blocks_past(shape: Shape) -> Tensor:
    """Strict, of the last position of every 2x2 block."""
    return strict(shape).view(-1, *shape)[:, 1::2, 1::2].flatten(1)


def soft_ratio(scores: Tensor, mask: Tensor) -> Tensor:
    """The original's: exp of the masked difference to the maximum, over its sum and a little."""
    masked = scores - (~mask).type_as(scores) * 1e10
    weights = torch.exp(masked - masked.amax(-1, keepdim=True)) * mask.type_as(scores)
    return weights / (weights.sum(-1, keepdim=True) + 1e-6)


@network(shapes=((4, 6), (6, 4), (4, 8)))
def pooled_keys(shape: Shape) -> nn.Module:
    return attending(PooledAttention(blocks_past(shape), soft_ratio))


@network(shapes=((4, 6), (6, 4)))
def pooled_keys_of_heads_that_see_the_pixel(shape: Shape) -> nn.Module:
    """Keys and values of the raw codes, which exist once the pixel is drawn; queries of the features."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        return m.out(F.elu(m.next(torch.cat([y, m.attention(y, hot(x))], 1))))
    attention = PooledAttention(blocks_past(shape), soft_ratio, heads=2, key=4, value=6, keys_from=LEVELS)
    return Sketch(run, first=First(), attention=attention, next=DownRight(WIDTH + 6), out=head())
