"""Networks that take the canvas as a sequence of tokens in raster order: transformers over pixels."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.errors import NotCausalError, UnsupportedOpError

from .zoo import LEVELS, WIDTH, DownRight, Shape, Sketch, head, hot, leak, network
from .zoo_images import RGB, rgb

DIM, HEADS = 8, 2
SHAPES = ((3, 4), (1, 5), (4, 1))
Mix = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def below(count: int) -> Tensor:
    return torch.ones(count, count, dtype=torch.bool).tril()


def by_softmax(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).masked_fill(~mask, float("-inf"))
    return F.softmax(scores, -1) @ v


def by_sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def by_mask_of_sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def by_addition(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return F.softmax(q @ k.mT * q.shape[-1] ** -0.5 + torch.zeros(mask.shape).masked_fill(~mask, -1e9), -1) @ v


class Block(nn.Module):
    """A layer of a transformer, its norms before what they are for or after it."""

    def __init__(self, mix: Mix = by_softmax, pre: bool = True, heads: int = HEADS) -> None:
        super().__init__()
        self.mix, self.pre, self.heads = mix, pre, heads
        self.qkv, self.out = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)
        self.up, self.down = nn.Linear(DIM, 2 * DIM), nn.Linear(2 * DIM, DIM)
        self.one, self.two = nn.LayerNorm(DIM), nn.LayerNorm(DIM)

    def attend(self, x: Tensor, mask: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = (y.view(b, t, self.heads, -1).transpose(1, 2) for y in self.qkv(x).split(d, 2))
        return self.out(self.mix(q, k, v, mask).transpose(1, 2).reshape(b, t, d))

    def feed(self, x: Tensor) -> Tensor:
        return self.down(torch.tanh(self.up(x)))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if self.pre:
            x = x + self.attend(self.one(x), mask)
            return x + self.feed(self.two(x))
        x = self.one(x + self.attend(x, mask))
        return self.two(x + self.feed(x))


class Transformer(nn.Module):
    """Codes, one start token, learned positions, layers; `shifted` puts the start in front and drops the last token."""

    def __init__(self, shape: Shape, blocks: list[Block] | None = None, front: int = 1) -> None:
        super().__init__()
        self.shape, self.count = shape, shape[0] * shape[1]
        self.embed, self.start = nn.Embedding(LEVELS, DIM), nn.Parameter(torch.randn(1, 1, DIM))
        self.position = nn.Parameter(torch.randn(self.count + front - 1, DIM))
        self.blocks = nn.ModuleList(blocks if blocks is not None else [Block(), Block()])
        self.norm, self.head = nn.LayerNorm(DIM), nn.Linear(DIM, LEVELS, bias=False)
        self.register_buffer("mask", below(self.count + front - 1), persistent=False)

    def tokens(self, codes: Tensor) -> Tensor:
        return self.embed(codes.flatten(1))

    def shifted(self, codes: Tensor) -> Tensor:
        e = self.tokens(codes)
        return torch.cat([self.start.expand(len(e), -1, -1), e[:, :-1]], 1)

    def run(self, x: Tensor) -> Tensor:
        x = x + self.position
        for block in self.blocks:
            x = block(x, self.mask)
        return self.head(self.norm(x))

    def logits(self, y: Tensor) -> Tensor:
        """`[B, P, LEVELS]` as a map."""
        return y.transpose(1, 2).reshape(len(y), LEVELS, *self.shape)

    def forward(self, codes: Tensor) -> Tensor:
        return self.logits(self.run(self.shifted(codes)))


@network(shapes=(*SHAPES, (4, 5)))
def transformer(shape: Shape) -> nn.Module:
    return Transformer(shape)


@network(shapes=SHAPES)
def transformer_post_norm(shape: Shape) -> nn.Module:
    return Transformer(shape, [Block(pre=False), Block(by_addition, pre=False, heads=1)])


@network(shapes=SHAPES)
def transformer_sdpa(shape: Shape) -> nn.Module:
    return Transformer(shape, [Block(by_sdpa), Block(by_mask_of_sdpa)])


@network(shapes=SHAPES)
def transformer_written(shape: Shape) -> nn.Module:
    """The shift by writes into a buffer: the tokens behind the first one, and the start in front of them."""
    class Written(Transformer):
        def shifted(self, codes: Tensor) -> Tensor:
            e = self.tokens(codes)
            found = torch.zeros_like(e)
            found[:, 1:] = e[:, :-1]
            found[:, 0] = self.start[:, 0]
            return found
    return Written(shape)


@network(shapes=SHAPES)
def transformer_mixed(shape: Shape) -> nn.Module:
    """Every token but the first has the one before it added in place; the third and fourth become the start."""
    class Mixed(Transformer):
        def shifted(self, codes: Tensor) -> Tensor:
            found = super().shifted(codes)
            found[:, 1:] += 0.5 * found[:, :-1]
            found[:, 2:4] = self.start
            return found
    return Mixed(shape)


@network(shapes=SHAPES)
def transformer_written_in_front(shape: Shape) -> nn.Module:
    """The start written over the first of as many tokens as pixels, which are moved beforehand."""
    class Written(Transformer):
        def shifted(self, codes: Tensor) -> Tensor:
            found = F.pad(self.tokens(codes), [0, 0, 1, 0])[:, :-1].clone()
            found[:, :1] = self.start
            found[..., :2] += self.start[..., :2]
            return found
    return Written(shape)


@network(shapes=SHAPES)
def transformer_padded(shape: Shape) -> nn.Module:
    """The shift by a pad in front and a slice, zeros being the start."""
    class Padded(Transformer):
        def shifted(self, codes: Tensor) -> Tensor:
            return F.pad(self.tokens(codes), [0, 0, 1, 0])[:, :-1]
    return Padded(shape)


@network(shapes=SHAPES)
def transformer_pad_of_minus_one(shape: Shape) -> nn.Module:
    class Padded(Transformer):
        def shifted(self, codes: Tensor) -> Tensor:
            return F.pad(self.tokens(codes), [0, 0, 1, -1]) * 1.5
    return Padded(shape)


@network(shapes=SHAPES)
def transformer_start_is_a_code(shape: Shape) -> nn.Module:
    """The codes are shifted, and a further level is the start's."""
    class Coded(Transformer):
        def shifted(self, codes: Tensor) -> Tensor:
            return self.more(F.pad(codes.flatten(1)[:, :-1], (1, 0), value=LEVELS))
    net = Coded(shape)
    net.more = nn.Embedding(LEVELS + 1, DIM)
    return net


@network(shapes=SHAPES)
def transformer_positions_before_the_shift(shape: Shape) -> nn.Module:
    """Positions of rows and of columns on what is shifted, a layer between the slice and the start, and one linear
    layer's weights tied to the embedding's."""
    class Shifted(Transformer):
        def shifted(self, codes: Tensor) -> Tensor:
            e = self.embed(codes) + self.rows[:, None] + self.columns[None]
            e = torch.tanh(self.first(e.flatten(1, 2)[:, :-1] * self.position[1:]))
            return torch.cat([self.start.repeat(len(e), 1, 1), e], 1)

        def run(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                x = block(x, self.mask)
            return F.linear(x, self.embed.weight)
    net = Shifted(shape)
    net.first = nn.Linear(DIM, DIM)
    net.rows, net.columns = nn.Parameter(torch.randn(shape[0], DIM)), nn.Parameter(torch.randn(shape[1], DIM))
    return net


@network(shapes=SHAPES)
def transformer_by_two(shape: Shape) -> nn.Module:
    """Two start tokens, of which a prediction sees one or none: the last two pixels are dropped."""
    class Two(Transformer):
        def shifted(self, codes: Tensor) -> Tensor:
            e = self.tokens(codes)
            return torch.cat([self.two.expand(len(e), -1, -1), e[:, :-2]], 1)
    net = Two(shape)
    net.two = nn.Parameter(torch.randn(1, 2, DIM))
    return net


@network(shapes=SHAPES)
def transformer_by_many(shape: Shape) -> nn.Module:
    """More start tokens than a row has pixels."""
    class Many(Transformer):
        def shifted(self, codes: Tensor) -> Tensor:
            e = self.tokens(codes)
            return torch.cat([self.many.expand(len(e), -1, -1), e[:, :-self.many.shape[1]]], 1)
    net = Many(shape)
    net.many = nn.Parameter(torch.randn(1, min(5, net.count - 1), DIM))
    return net


@network(shapes=SHAPES)
def transformer_shift_at_the_end(shape: Shape) -> nn.Module:
    """Every token sees itself; what comes out is shifted."""
    class Late(Transformer):
        def forward(self, codes: Tensor) -> Tensor:
            y = self.run(self.tokens(codes))
            return self.logits(torch.cat([self.first.expand(len(y), -1, -1), y[:, :-1]], 1))
    net = Late(shape)
    net.first = nn.Parameter(torch.randn(1, 1, LEVELS))
    return net


@network(shapes=SHAPES)
def transformer_of_pytorch(shape: Shape) -> nn.Module:
    """`nn.TransformerEncoder`, its mask said to be causal, and sinusoids as positions."""
    class Encoder(Transformer):
        def run(self, x: Tensor) -> Tensor:
            mask = nn.Transformer.generate_square_subsequent_mask(self.count, dtype=torch.float64)
            return self.head(self.encoder(x + self.waves, mask=mask, is_causal=True))
    net = Encoder(shape, [])
    layer = nn.TransformerEncoderLayer(DIM, HEADS, 2 * DIM, activation=torch.tanh, batch_first=True, norm_first=True)
    net.encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(DIM), enable_nested_tensor=False)
    angle = torch.arange(net.count)[:, None] / 100 ** (torch.arange(DIM // 2) / DIM)
    net.register_buffer("waves", torch.cat([angle.sin(), angle.cos()], 1))
    return net


@network(shapes=SHAPES)
def transformer_multihead(shape: Shape) -> nn.Module:
    """`nn.MultiheadAttention`, tokens first and weights wanted, behind layers that know rows and columns."""
    class Multi(Transformer):
        def run(self, x: Tensor) -> Tensor:
            x = (x + self.position).transpose(0, 1)
            x = x + self.attention(x, x, x, attn_mask=~self.mask)[0]
            return self.head(self.norm(x)).transpose(0, 1)
    net = Multi(shape, [])
    net.attention = nn.MultiheadAttention(DIM, HEADS)
    return net


@network(pixels=rgb, distribution=RGB, shapes=SHAPES)
def transformer_of_images(shape: Shape) -> nn.Module:
    """A pixel is one token, of three numbers."""
    class Images(Transformer):
        def tokens(self, codes: Tensor) -> Tensor:
            return torch.tanh(self.lift(codes.flatten(2).transpose(1, 2)))

        def logits(self, y: Tensor) -> Tensor:
            return self.out(y).mT.unflatten(2, self.shape)
    net = Images(shape)
    net.lift, net.out = nn.Linear(3, DIM), nn.Linear(LEVELS, RGB.parameters)
    return net


@network(shapes=SHAPES)
def convolution_and_raster_shift(shape: Shape) -> nn.Module:
    """A raster shift among two-dimensional ones, without attention."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x))).flatten(2)
        y = torch.cat([m.start.weight.expand(len(y), -1, -1), y[..., :-1]], 2).view(-1, WIDTH, *shape)
        return m.out(F.elu(m.next(y)))
    return Sketch(run, first=DownRight(LEVELS), next=DownRight(), out=head(), start=nn.Linear(1, WIDTH))


@leak(NotCausalError, "(row +0, column +0)", shape=(3, 4))
def transformer_without_a_shift(shape: Shape) -> nn.Module:
    class Unshifted(Transformer):
        def shifted(self, codes: Tensor) -> Tensor:
            return self.tokens(codes)
    return Unshifted(shape)


@leak(NotCausalError, "(row +1, column -3)", "mask", shape=(3, 4))
def transformer_mask_one_too_far(shape: Shape) -> nn.Module:
    net = Transformer(shape)
    net.mask = torch.ones_like(net.mask).tril(2)
    return net


@leak(UnsupportedOpError, "the channels of a pixel are tokens of their own", shape=(3, 4))
def transformer_of_interleaved_channels(shape: Shape) -> nn.Module:
    """Three bits of every code, one token each."""
    class Bits(Transformer):
        def shifted(self, codes: Tensor) -> Tensor:
            bits = (codes[..., None] == torch.arange(3)).to(torch.float64).flatten(1)
            return torch.cat([self.start[..., 0].expand(len(bits), -1), bits[:, :-1]], 1)[..., None]

        def run(self, x: Tensor) -> Tensor:
            return self.head(x + self.position)[:, :self.count]
    net = Bits(shape, [])
    net.position = nn.Parameter(torch.randn(3 * net.count, DIM))
    return net


@leak(UnsupportedOpError, "behind the pixels'", shape=(3, 4))
def transformer_shift_the_other_way(shape: Shape) -> nn.Module:
    class Other(Transformer):
        def shifted(self, codes: Tensor) -> Tensor:
            e = self.tokens(codes)
            return F.pad(e, [0, 0, 0, 1])[:, 1:]
    return Other(shape)


@leak(UnsupportedOpError, "over the first 11 of 12 tokens", shape=(3, 4))
def transformer_written_where_it_was(shape: Shape) -> nn.Module:
    """All tokens but the last one, where they were, and nothing behind them."""
    class Front(Transformer):
        def shifted(self, codes: Tensor) -> Tensor:
            e = self.tokens(codes)
            found = torch.zeros_like(e)
            found[:, :-1] = e[:, :-1]
            return found
    return Front(shape)
