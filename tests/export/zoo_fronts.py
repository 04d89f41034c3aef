"""Transformers over pixels with tokens in front of them: labels, codes and vectors of conditions, learned ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.errors import NotCausalError, UnsupportedOpError
from pixelsnail_infer.export.tracing.trace import InputSpec

from .zoo import LEVELS, Shape, leak, network
from .zoo_conditions import LABELS, half_grid, label, vector
from .zoo_sequences import DIM, HEADS, SHAPES, Block, Transformer, below, by_addition, by_mask_of_sdpa, by_sdpa


def line_of_codes(shape: Shape) -> tuple[InputSpec, ...]:
    return (InputSpec("condition", (1, 3), torch.int64, LEVELS),)


def line_and_label(shape: Shape) -> tuple[InputSpec, ...]:
    return (*line_of_codes(shape), *label(shape))


class Fronted(Transformer):
    """`fronts` gives the tokens of conditions; the last token of all is dropped, and the last ones are the logits."""

    def __init__(self, shape: Shape, count: int, blocks: list[Block] | None = None) -> None:
        super().__init__(shape, blocks, count)
        self.labels, self.codes, self.lift = nn.Embedding(LABELS, DIM), nn.Embedding(LEVELS, DIM), nn.Linear(4, 2 * DIM)

    def fronts(self, *conditions: Tensor) -> list[Tensor]:
        return [self.labels(conditions[0])[:, None]]

    def forward(self, codes: Tensor, *conditions: Tensor) -> Tensor:
        x = torch.cat([*self.fronts(*conditions), self.tokens(codes)[:, :-1]], 1)
        return self.logits(self.run(x)[:, -self.count:])


@network(conditions=label, shapes=SHAPES)
def front_of_a_label(shape: Shape) -> nn.Module:
    """The label is the start: there is nothing before the canvas."""
    return Fronted(shape, 1)


@network(conditions=label, shapes=SHAPES)
def front_of_a_label_and_a_start(shape: Shape) -> nn.Module:
    class Two(Fronted):
        def fronts(self, *conditions: Tensor) -> list[Tensor]:
            return [*super().fronts(*conditions), self.start.expand(len(conditions[0]), -1, -1)]
    return Two(shape, 2, [Block(by_mask_of_sdpa), Block(by_addition, pre=False)])


@network(conditions=line_of_codes, shapes=SHAPES)
def front_of_codes(shape: Shape) -> nn.Module:
    """The last of the codes' tokens stands where the first pixel is predicted."""
    class Codes(Fronted):
        def fronts(self, *conditions: Tensor) -> list[Tensor]:
            return [self.codes(conditions[0].flatten(1))]
    return Codes(shape, 3, [Block(by_sdpa), Block(by_sdpa, heads=1)])


@network(conditions=half_grid, shapes=((4, 6), (2, 4)))
def front_of_a_grid(shape: Shape) -> nn.Module:
    """Codes of a coarser image, then a start, in one embedding with the pixels; attention is causal among pixels, the
    tokens in front see each other."""
    class Grid(Fronted):
        def forward(self, codes: Tensor, *conditions: Tensor) -> Tensor:
            start = torch.full((len(codes), 1), LEVELS)
            x = torch.cat([conditions[0].flatten(1), start, codes.flatten(1)[:, :-1]], 1)
            return self.logits(self.run(self.more(x))[:, -self.count:])
    front = shape[0] * shape[1] // 4
    net = Grid(shape, front + 1)
    net.more = nn.Embedding(LEVELS + 1, DIM)
    net.mask[:front, :front] = True
    return net


@network(conditions=vector, shapes=SHAPES)
def front_of_a_vector(shape: Shape) -> nn.Module:
    """Two tokens made of one vector, and all tokens go in: what the last one gives is left out."""
    class Vector(Fronted):
        def forward(self, codes: Tensor, *conditions: Tensor) -> Tensor:
            front = self.lift(conditions[0]).view(-1, 2, DIM)
            return self.logits(self.run(torch.cat([front, self.tokens(codes)], 1))[:, 1:-1])
    return Vector(shape, 3)


@network(conditions=line_and_label, shapes=SHAPES)
def front_of_everything(shape: Shape) -> nn.Module:
    """A label, codes, a learned token and a start, through `nn.TransformerEncoder`."""
    class All(Fronted):
        def fronts(self, *conditions: Tensor) -> list[Tensor]:
            codes, labels = conditions
            return [self.labels(labels)[:, None], self.codes(codes[:, 0]), self.two.expand(len(codes), -1, -1)]

        def run(self, x: Tensor) -> Tensor:
            return self.head(self.encoder(x + self.position, mask=~self.mask))
    net = All(shape, 6, [])
    net.two = nn.Parameter(torch.randn(1, 2, DIM))
    layer = nn.TransformerEncoderLayer(DIM, HEADS, 2 * DIM, activation=torch.tanh, batch_first=True)
    net.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return net


@network(conditions=label, shapes=SHAPES)
def front_of_a_label_multihead(shape: Shape) -> nn.Module:
    """`nn.MultiheadAttention` with weights, tokens first; the queries are the pixels' alone."""
    class Multi(Fronted):
        def run(self, x: Tensor) -> Tensor:
            x = (x + self.position).transpose(0, 1)
            x = x + self.attention(x, x, x, attn_mask=self.mask.double().log())[0]
            last = x[-self.count:]
            y = self.last(last, x, x, attn_mask=~self.mask[-self.count:], need_weights=False)[0]
            return self.head(self.norm(last + y)).transpose(0, 1)

        def fronts(self, *conditions: Tensor) -> list[Tensor]:
            return [*super().fronts(*conditions), self.start.expand(len(conditions[0]), -1, -1)]
    net = Multi(shape, 2, [])
    net.attention, net.last = (nn.MultiheadAttention(DIM, HEADS) for _ in range(2))
    return net


@network(shapes=SHAPES)
def front_of_learned_tokens(shape: Shape) -> nn.Module:
    """Constants in front: registers that every token sees, and a shift by a pad."""
    class Learned(Transformer):
        def forward(self, codes: Tensor) -> Tensor:
            e = F.pad(self.tokens(codes), [0, 0, 1, 0])
            x = torch.cat([self.registers.expand(len(e), -1, -1), e], 1)[:, :-1]
            return self.logits(self.run(x)[:, -self.count:])
    net = Learned(shape, front=4)
    net.registers = nn.Parameter(torch.randn(1, 3, DIM))
    return net


@network(conditions=label, shapes=((3, 4),))
def front_is_masked_out(shape: Shape) -> nn.Module:
    """Pixels see nothing of the first token."""
    net = Fronted(shape, 2)
    net.fronts = lambda y: [net.labels(y)[:, None], net.start.expand(len(y), -1, -1)]  # type: ignore[method-assign]
    net.mask = below(shape[0] * shape[1] + 1)
    net.mask[1:, 0] = False
    return net


@leak(NotCausalError, "token 0 in front of the pixels see pixel 2", shape=(3, 4))
def front_sees_a_pixel(shape: Shape) -> nn.Module:
    net = transformer_behind_two(shape)
    net.mask[0, 4] = True
    return net


@leak(UnsupportedOpError, "token 0 in front", "the token at which the first pixel is predicted", shape=(3, 4))
def front_sees_the_start(shape: Shape) -> nn.Module:
    net = transformer_behind_two(shape)
    net.mask[0, 1] = True
    return net


@leak(NotCausalError, "(row +0, column +1)", "mask", shape=(3, 4))
def pixel_behind_a_front_sees_the_next_one(shape: Shape) -> nn.Module:
    net = transformer_behind_two(shape)
    net.mask[6, 8] = True
    return net


def transformer_behind_two(shape: Shape) -> Transformer:
    class Learned(Transformer):
        def forward(self, codes: Tensor) -> Tensor:
            x = torch.cat([self.two.expand(len(codes), -1, -1), self.tokens(codes)[:, :-1]], 1)
            return self.logits(self.run(x)[:, -self.count:])
    net = Learned(shape, front=2)
    net.two = nn.Parameter(torch.randn(1, 2, DIM))
    return net


@leak(UnsupportedOpError, "over 2 of 3 tokens of a condition", shape=(3, 4), conditions=line_of_codes)
def pixels_written_over_a_condition(shape: Shape) -> nn.Module:
    class Over(Fronted):
        def forward(self, codes: Tensor, *conditions: Tensor) -> Tensor:
            x, e = self.codes(conditions[0].flatten(1)), self.tokens(codes)
            x[:, 1:] = e[:, :2]
            return self.logits(self.run(torch.cat([x, e[:, 2:-1]], 1)))
    return Over(shape, 1, [])
