"""Conditions of every kind: labels, vectors, maps, and codes on another grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.export.tracing.trace import InputSpec

from .zoo import LEVELS, WIDTH, DownRight, First, Shape, Sketch, conv, down, head, hot, network
from .zoo_attention import Attention, start_mask, strict
from .zoo_convolutions import TwoStack

LABELS = 3


def label(shape: Shape) -> tuple[InputSpec, ...]:
    return (InputSpec("label", (), torch.int64, LABELS),)


def vector(shape: Shape) -> tuple[InputSpec, ...]:
    return (InputSpec("vector", (4,), torch.float64),)


def image(shape: Shape) -> tuple[InputSpec, ...]:
    return (InputSpec("image", (2, *shape), torch.float64),)


def same_grid(shape: Shape) -> tuple[InputSpec, ...]:
    return (InputSpec("condition", shape, torch.int64, LEVELS),)


def half_grid(shape: Shape) -> tuple[InputSpec, ...]:
    return (InputSpec("condition", (shape[0] // 2, shape[1] // 2), torch.int64, LEVELS),)


@network(conditions=label)
def label_one_hot(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor, y: Tensor) -> Tensor:
        h = m.h(F.one_hot(y, LABELS).to(torch.float64))[:, :, None, None]
        return m.out(F.elu(m.next(F.elu(m.first(hot(x)) + h)) + h))
    return Sketch(run, h=nn.Linear(LABELS, WIDTH), first=First(), next=DownRight(), out=head())


@network(conditions=label)
def label_embedding(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor, y: Tensor) -> Tensor:
        h = m.h(y).unsqueeze(-1).unsqueeze(-1)
        a, b = m.next(m.first(hot(x))).chunk(2, 1)
        c, d = m.gate(h).chunk(2, 1)
        return m.out(torch.tanh(a + c) * torch.sigmoid(b + d))
    return Sketch(run, h=nn.Embedding(LABELS, 4), gate=conv(4, 2 * WIDTH), first=First(),
                  next=DownRight(out=2 * WIDTH), out=head())


@network(conditions=label)
def label_expanded(shape: Shape) -> nn.Module:
    """The label's vector expanded over the canvas and joined to the features, then convolved."""
    def run(m: Sketch, x: Tensor, y: Tensor) -> Tensor:
        h = m.h(y)[:, :, None, None].expand(-1, -1, *shape)
        return m.out(F.elu(m.next(torch.cat([m.first(hot(x)), h], 1))))
    return Sketch(run, h=nn.Embedding(LABELS, 4), first=First(), next=DownRight(WIDTH + 4), out=head())


@network(conditions=label)
def label_map(shape: Shape) -> nn.Module:
    """A label -> linear layers -> a 1 x H x W map, into every block."""
    def run(m: Sketch, x: Tensor, y: Tensor) -> Tensor:
        c = m.b(m.a(F.one_hot(y, LABELS).to(torch.float64))).view(-1, 1, *shape)
        z = m.first(hot(x))
        z = z + F.glu(m.one(F.elu(z)) + m.c1(c), 1)
        return m.out(F.elu(z + F.glu(m.two(F.elu(z)) + m.c2(c), 1)))
    return Sketch(run, a=nn.Linear(LABELS, 7), b=nn.Linear(7, shape[0] * shape[1]), first=First(), out=head(),
                  one=DownRight(out=2 * WIDTH), two=DownRight(out=2 * WIDTH), c1=conv(1, 2 * WIDTH, bias=False),
                  c2=conv(1, 2 * WIDTH, bias=False))


@network(conditions=vector)
def vector_everywhere(shape: Shape) -> nn.Module:
    """A vector as a bias on every block, a factor of another, and into the queries."""
    def run(m: Sketch, x: Tensor, h: Tensor) -> Tensor:
        z = F.elu(m.first(hot(x)) + m.h1(h)[:, :, None, None])
        z = z + m.attention(z + m.h3(h).view(-1, WIDTH, 1, 1), z)
        return m.out(m.next(z) * torch.sigmoid(m.h2(h))[..., None, None])
    return Sketch(run, h1=nn.Linear(4, WIDTH), h2=nn.Linear(4, WIDTH), h3=nn.Linear(4, WIDTH), first=First(),
                  next=DownRight(), out=head(), attention=Attention(strict(shape), start_mask, heads=2, value=WIDTH))


@network(conditions=image)
def image_map(shape: Shape) -> nn.Module:
    """A map with ordinary padding of its own, joined, added, and read at several positions by causal taps."""
    def run(m: Sketch, x: Tensor, c: Tensor) -> Tensor:
        c = F.relu(m.look(c))
        z = F.elu(m.first(hot(x)) + c)
        return m.out(F.elu(m.next(torch.cat([z, c], 1)) + m.more(c)))
    return Sketch(run, look=conv(2, kernel=3, padding=1), first=First(), next=DownRight(2 * WIDTH), out=head(),
                  more=conv(kernel=3, padding=1))


@network(conditions=image)
def shifted_condition(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor, c: Tensor) -> Tensor:
        c = m.c(c)
        ahead = F.pad(c, [0, 1, 0, 1])[:, :, 1:, 1:]
        return m.out(F.elu(m.next(m.first(hot(x)) * ahead) + F.pad(c, [2, 0, 0, 0])[:, :, :, :-2]))
    return Sketch(run, c=conv(2), first=First(), next=DownRight(), out=head())


@network(conditions=same_grid)
def codes_on_the_same_grid(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor, c: Tensor) -> Tensor:
        c = m.table(c).permute(0, 3, 1, 2)
        return m.out(F.elu(m.first(hot(x)) + m.look(c)))
    return Sketch(run, table=nn.Embedding(LEVELS, 4), look=conv(4, kernel=3, padding=1), first=First(), out=head())


@network(conditions=half_grid, shapes=((4, 6), (2, 4), (4, 2)))
def codes_on_a_coarser_grid(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor, c: Tensor) -> Tensor:
        c = F.elu(m.look(hot(c)))
        c = c + F.glu(m.block(F.elu(c)), 1)
        c = F.interpolate(c, scale_factor=2)
        z = m.first(hot(x))
        z = z + F.glu(m.one(F.elu(z)) + m.c1(c), 1)
        return m.out(F.elu(z + F.glu(m.two(F.elu(z)) + m.c2(c), 1)))
    return Sketch(run, look=conv(LEVELS, kernel=5, padding=2), block=conv(out=2 * WIDTH, kernel=3, padding=1),
                  c1=conv(out=2 * WIDTH, bias=False), c2=conv(out=2 * WIDTH, bias=False), first=First(),
                  one=DownRight(out=2 * WIDTH), two=DownRight(out=2 * WIDTH), out=head())


@network(conditions=half_grid, shapes=((4, 6),))
def upsampled_to_a_size(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor, c: Tensor) -> Tensor:
        c = F.interpolate(m.look(hot(c)), size=x.shape[1:], mode="nearest")
        return m.out(F.elu(m.first(hot(x)) + c))
    return Sketch(run, look=conv(LEVELS), first=First(), out=head())


@network(conditions=lambda shape: (*label(shape), *image(shape)))
def two_conditions(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor, y: Tensor, c: Tensor) -> Tensor:
        c = m.c(c) * m.h(y)[:, :, None, None]
        return m.out(F.elu(m.next(F.elu(m.first(hot(x)))) + c))
    return Sketch(run, h=nn.Embedding(LABELS, WIDTH), c=conv(2), first=First(), next=DownRight(), out=head())


@network(conditions=image)
def condition_in_keys(shape: Shape) -> nn.Module:
    """Attention over a condition's positions joins the causal one; its keys are known before the first pixel."""
    def run(m: Sketch, x: Tensor, c: Tensor) -> Tensor:
        z = F.elu(m.first(hot(x)))
        return m.out(F.elu(z + m.attention(z, m.c(c) + z)))
    return Sketch(run, c=conv(2), first=First(), out=head(),
                  attention=Attention(strict(shape), start_mask, value=WIDTH))


@network(conditions=image)
def cross_attention(shape: Shape) -> nn.Module:
    """Attention over the condition's positions alone, without a mask."""
    def run(m: Sketch, x: Tensor, c: Tensor) -> Tensor:
        z = F.elu(m.first(hot(x)))
        return m.out(F.elu(z + m.attention(z, m.c(c))))
    return Sketch(run, c=conv(2), first=First(), out=head(),
                  attention=Attention(strict(shape), lambda scores, mask: torch.softmax(scores, -1), value=WIDTH))


@network(conditions=vector)
def vector_on_a_sum(shape: Shape) -> nn.Module:
    """Two vectors, each added to a product of the step: their sum alone has no positions."""
    def run(m: Sketch, x: Tensor, v: Tensor) -> Tensor:
        first, second = (part(v)[:, :, None, None] for part in (m.first_vector, m.second_vector))
        return m.out(F.elu(first + (second + m.next(F.elu(m.first(hot(x)))))))
    return Sketch(run, first=First(), next=conv(WIDTH, WIDTH), out=head(), first_vector=nn.Linear(4, WIDTH),
                  second_vector=nn.Linear(4, WIDTH))


@network(shapes=((4, 6), (6, 4)), conditions=half_grid)
def two_stacks_with_maps(shape: Shape) -> nn.Module:
    """A condition's map, upsampled, and the coordinates reach the vertical stack at one lead and the horizontal one at
    another."""
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) / n for n in shape), indexing="ij")

    def run(m: Sketch, x: Tensor, y: Tensor) -> Tensor:
        h = m.cond(F.interpolate(m.coarse(hot(y)), scale_factor=2))
        place = m.place(torch.stack([rows, columns])[None].expand(len(x), -1, -1, -1))
        v, left = m.one(hot(x), hot(x))
        v, left = m.two(torch.tanh(v + h) + place, left + h)
        v, left = m.three(F.elu(v + h), left + place)
        return m.out(F.relu(left + down(h)))
    return Sketch(run, coarse=conv(LEVELS, 3, 3, padding=1), cond=conv(3), place=conv(2), one=TwoStack(LEVELS, True),
                  two=TwoStack(WIDTH, False), three=TwoStack(WIDTH, False), out=head())
