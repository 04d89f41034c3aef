"""What random networks brought to light: borders of what was shifted away, conditions at offsets, learned tables."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.errors import NotCausalError, UnsupportedOpError
from pixelsnail_infer.export.tracing.trace import InputSpec

from .zoo import LEVELS, WIDTH, DownRight, First, Shape, Sketch, conv, down, head, hot, leak, network, right
from .zoo_attention import Attention, PooledAttention, soft_ratio, start_mask, strict, zero_by_mask
from .zoo_conditions import half_grid, image, label


class Cut(nn.Module):
    """The first rows and columns of a canvas."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return right(x[:, :, : self.shape[0], : self.shape[1]])


@network(shapes=((3, 4), (2, 3)))
def shifted_off_the_canvas(shape: Shape) -> nn.Module:
    """Two shifts with borders of their own: no pixel is left, but the inner border ends where the outer one begins."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.pad(hot(x), [0, 1, 1, 0], value=0.3)[:, :, :-1, 1:]
        y = F.pad(y, [0, 2, shape[0] - 1, 0])[:, :, : shape[0], 2:]
        return m.out(F.elu(m.a(y) + m.first(hot(x))))
    return Sketch(run, a=conv(LEVELS), first=First(), out=head())


@network(shapes=((2, 3), (2, 5)))
def taps_over_what_became_constant(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.far(F.pad(hot(x), [0, 0, 2, 0]))[:, :, : shape[0]]  # two rows above: the bias alone
        y = F.relu(F.pad(y, [1, 0, 2, 0], value=0.3))
        return m.out(F.elu(m.next(y)[:, :, : shape[0]] + m.first(hot(x))))
    return Sketch(run, far=conv(LEVELS), next=conv(kernel=2), first=First(), out=head())


@network(conditions=label, shapes=((2, 3), (1, 4)))
def vector_and_what_became_constant(shape: Shape) -> nn.Module:
    """A label added to rows that lie above the canvas: a value without positions, read at an offset with a border."""
    def run(m: Sketch, x: Tensor, c: Tensor) -> Tensor:
        y = down(m.a(hot(x)), shape[0]) + m.h(c)[:, :, None, None]
        y = torch.tanh(m.next(F.pad(y, [1, 0, 1, 0], value=0.2)))
        return m.out(F.elu(F.pad(y, [0, 1, 0, 0], value=-1.0)[:, :, :, 1:] + m.first(hot(x))))
    return Sketch(run, a=conv(LEVELS), h=nn.Embedding(3, WIDTH), next=conv(kernel=2), first=First(), out=head())


@network(conditions=image)
def condition_read_at_offsets(shape: Shape) -> nn.Module:
    """Inside of the condition's own network: shifts with borders, a wide map and its crop, positions."""
    def run(m: Sketch, x: Tensor, c: Tensor) -> Tensor:
        wide = torch.tanh(m.c(F.pad(c, [1, 1, 1, 1], value=0.4)))
        shifted = F.pad(c, [2, 0, 1, 0], value=-0.3)[:, :, : shape[0], : shape[1]]
        c = m.c(c) * torch.sigmoid(m.d(shifted)) + wide[:, :, : shape[0], : shape[1]] + m.places
        return m.out(F.elu(m.next(m.first(hot(x)) + wide[:, :, 1:-1, 2:]) + down(c)))
    sketch = Sketch(run, c=conv(2), d=conv(2), first=First(), next=DownRight(), out=head())
    sketch.register_buffer("places", torch.randn(1, WIDTH, *shape))
    return sketch


@network(conditions=half_grid, shapes=((4, 6), (2, 4)))
def condition_on_both_sides_of_the_cut(shape: Shape) -> nn.Module:
    """An upsampled map that the rows can compute themselves, and a convolution of it that they cannot."""
    def run(m: Sketch, x: Tensor, c: Tensor) -> Tensor:
        c = F.interpolate(m.look(hot(c)), scale_factor=2)
        return m.out(F.elu(m.first(hot(x)) + m.near(c) + m.far(F.elu(c))))
    return Sketch(run, look=conv(LEVELS, 1), near=conv(1), far=conv(1, kernel=3, padding=1), first=First(), out=head())


@network(conditions=half_grid, shapes=((4, 6), (4, 2)))
def attention_inside_of_the_condition(shape: Shape) -> nn.Module:
    """Over the condition's own, smaller grid, without a mask, and over its pooled positions from the canvas."""
    places = math.prod(shape)

    def run(m: Sketch, x: Tensor, c: Tensor) -> Tensor:
        c = F.elu(m.look(hot(c)))
        c = c + m.own(c, c)
        z = F.elu(m.first(hot(x)))
        return m.out(F.elu(z + m.other(z, F.interpolate(c, scale_factor=2))))
    few = torch.ones(places, places // 4).bool()
    free = Attention(few, lambda scores, mask: torch.softmax(scores, -1), heads=2, value=WIDTH)
    return Sketch(run, look=conv(LEVELS), own=free, other=PooledAttention(few, soft_ratio, value=WIDTH), first=First(),
                  out=head())


def _fixed(shape: Shape, what: str, heads: int) -> nn.Module:
    """Attention of which one part is a learned table over the canvas."""
    mask, places = strict(shape), math.prod(shape)

    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        q, k, v = (f(y).view(y.shape[0], heads, -1, places).transpose(2, 3) for f in (m.q, m.k, m.v))
        q, k, v = (m.table if what == name else part for name, part in (("q", q), ("k", k), ("v", v)))
        weights = m.table if what == "weights" else zero_by_mask(q @ k.transpose(2, 3), mask)
        return m.out(F.elu(y + (weights @ v).transpose(2, 3).reshape(y.shape)))
    sketch = Sketch(run, first=First(), q=conv(), k=conv(), v=conv(), out=head())
    table = torch.randn(1, heads, places, places).tril(-1) if what == "weights" else \
        torch.randn(1, heads, places, WIDTH // heads)
    sketch.register_buffer("table", table)
    return sketch


for _what in ("q", "k", "v", "weights"):
    for _heads in (1, 2):
        def _make(shape: Shape, what: str = _what, heads: int = _heads) -> nn.Module:
            return _fixed(shape, what, heads)
        _make.__name__ = f"learned_{_what}_of_{_heads}"
        network(shapes=((4, 5), (1, 4), (4, 1)))(_make)


@network()
def means_of_what_came_before(shape: Shape) -> nn.Module:
    """Fixed weights over all earlier positions, keys on either side, after the values saw the pixel."""
    earlier = torch.ones(math.prod(shape), math.prod(shape), dtype=torch.float64).tril(-1)

    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.a(hot(x)).flatten(2)
        before = earlier / earlier.sum(1, keepdim=True).clamp(min=1)
        means = y @ before.T + (before @ torch.tanh(y).transpose(1, 2)).transpose(1, 2)
        return m.out(F.elu(m.first(hot(x)) + means.view(-1, WIDTH, *shape)))
    return Sketch(run, a=conv(LEVELS), first=First(), out=head())


@network(conditions=lambda shape: (InputSpec("label", (), torch.int64, 3),), shapes=((4, 5), (1, 4)))
def label_laid_out_and_padded(shape: Shape) -> nn.Module:
    """A label's vector viewed as a map, then padded and joined like one; one repeated over the canvas."""
    def run(m: Sketch, x: Tensor, c: Tensor) -> Tensor:
        plane = m.plane(c).view(-1, 1, *shape)
        flat = m.flat(c)[:, :, None, None].repeat(1, 2, *shape)
        y = torch.cat([m.first(hot(x)), F.pad(plane, [1, 0, 0, 0])[..., :-1], flat], 1)
        return m.out(F.elu(m.next(y)))
    return Sketch(run, plane=nn.Embedding(3, math.prod(shape)), flat=nn.Embedding(3, 2), first=First(),
                  next=DownRight(WIDTH + 5), out=head())


@network()
def repeated_channels(shape: Shape) -> nn.Module:
    """One channel seen as several by a layer: expanded, and repeated."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.one(m.first(hot(x)))
        return m.out(F.elu(m.next(y.expand(-1, WIDTH, -1, -1)) + m.next(y.repeat(1, WIDTH, 1, 1))))
    return Sketch(run, first=First(), one=conv(out=1), next=DownRight(), out=head())


@network(shapes=((4, 5), (5, 1)))
def layers_over_the_last_axes(shape: Shape) -> nn.Module:
    """A layer over each head's width, shifted afterwards; a linear layer on a map that lies otherwise in memory."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        z = m.each(y.view(y.shape[0], 2, 3, *shape).permute(0, 3, 4, 1, 2))  # [B, H, W, 2, 3]
        z = down(z.flatten(3).permute(0, 3, 1, 2))
        return m.out(F.elu(z + m.wide(m.one(torch.tanh(y)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)))
    return Sketch(run, first=First(), each=nn.Linear(3, 3), one=conv(out=1), wide=nn.Linear(1, WIDTH, bias=False),
                  out=head())


@network()
def masks_of_positions(shape: Shape) -> nn.Module:
    """Truth values of positions, and of pixels read at another one."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        left = torch.cat([torch.zeros_like(y[:, :, :, :1]) > 0, (y > 0)[:, :, :, :-1]], 3)
        return m.out(torch.where(m.places > 0, y, -y) * m.places + torch.where(left, y, m.places))
    sketch = Sketch(run, first=First(), out=head())
    sketch.register_buffer("places", torch.randn(1, WIDTH, *shape))
    return sketch


@network()
def tables_without_heads(shape: Shape) -> nn.Module:
    """Plain matrices as keys, and as values."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x))).flatten(2).transpose(1, 2)  # [B, P, C]
        weights = zero_by_mask(y @ m.table.T, strict(shape))
        mixed = weights @ y + start_mask(y @ y.transpose(1, 2), strict(shape)) @ m.table
        return m.out(F.elu((y + mixed).transpose(1, 2).reshape(-1, WIDTH, *shape)))
    sketch = Sketch(run, first=First(), out=head())
    sketch.register_buffer("table", torch.randn(math.prod(shape), WIDTH))
    return sketch


@network(shapes=((4, 5), (1, 4), (3, 2)))
def padded_once(shape: Shape) -> nn.Module:
    """Layers with a bias over one padded map: outside, every channel has a number of its own."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = torch.tanh(m.one(F.pad(m.first(hot(x)), [3, 0, 3, 0], value=0.3)))  # H + 3 x W + 3
        return m.out(F.elu(m.three(F.elu(m.two(y)))))
    return Sketch(run, first=First(), one=conv(), two=conv(kernel=2), three=conv(kernel=3), out=head())


@network(shapes=((4, 5), (3, 4)))
def borders_by_channel_and_shifts(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.one(F.pad(m.first(hot(x)), [2, 0, 1, 0])))  # H + 1 x W + 2
        left, above = y[:, :, 1:, 1:-1], y[:, :, :-1, 2:]
        return m.out(F.elu(left * torch.sigmoid(above) + m.two(y)[:, :, :, : shape[1]]))
    return Sketch(run, first=First(), one=conv(), two=conv(kernel=2), out=head())


@network(shapes=((4, 6), (2, 4), (6, 2)))
def pooled_keys_of_rows_above(shape: Shape) -> nn.Module:
    """The row graph knows the keys and takes the maxima; queries know more, or no more than that."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        above = F.elu(m.above(F.pad(hot(x), [1, 1, 2, 0])[:, :, : shape[0] + 1]))
        y = F.elu(m.first(hot(x)))
        return m.out(F.elu(y + m.late(y, above) + m.early(above, above)))
    masks = [strict(shape).view(-1, *shape)[:, 1::2, 1::2].flatten(1)] * 2
    late, early = (PooledAttention(mask, soft_ratio, heads=2, value=WIDTH) for mask in masks)
    return Sketch(run, above=conv(LEVELS, kernel=(2, 3)), first=First(), late=late, early=early, out=head())


@network(shapes=((4, 5), (5, 1)))
def codes_in_tables_and_kernels(shape: Shape) -> nn.Module:
    """Embedded codes read at their own position, and by a kernel: outside of the canvas is another code for each."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.table(x).permute(0, 3, 1, 2)
        return m.out(F.elu(down(torch.tanh(y) ** 2) + m.first(y) + m.a(hot(x))))
    kernel = nn.Sequential(nn.ConstantPad2d((1, 0, 1, 0), 0.5), conv(LEVELS, kernel=(2, 1)), Cut(shape))
    return Sketch(run, table=nn.Embedding(LEVELS, WIDTH), first=First(into=WIDTH), a=kernel, out=head())


@network(shapes=((4, 5), (1, 5), (5, 1)))
def softmax_over_heads_and_widths(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        q = m.q(y).view(y.shape[0], 2, 3, -1).transpose(2, 3)
        mixed = (start_mask(q @ q.transpose(2, 3), strict(shape)) @ q).transpose(2, 3).reshape(y.shape)
        return m.out(F.elu(y + torch.softmax(mixed, 1)))
    return Sketch(run, first=First(), q=conv(), out=head())


@network(shapes=((5, 1), (1, 5), (4, 5)))
def one_channel_after_a_sequence(shape: Shape) -> nn.Module:
    """Where canvas and channels have one element each, what is padded are rows and columns."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        seq = m.narrow(m.first(hot(x)).flatten(2).transpose(1, 2))  # [B, P, 1]
        y = seq.transpose(1, 2).reshape(-1, 1, *shape)
        return m.out(F.elu(m.next(y) + F.pad(y, [0, 0, 1, 0])[:, :, :-1] + m.first(hot(x))))
    return Sketch(run, first=First(), narrow=nn.Linear(WIDTH, 1), next=DownRight(1), out=head())


@leak(UnsupportedOpError, "reshape")
def batch_behind_channels(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        return m.out(y.transpose(0, 1).reshape(y.shape))
    return Sketch(run, first=First(), out=head())


@leak(NotCausalError, "mask", "(row +0, column +0)")
def fixed_weights_of_the_pixel_itself(shape: Shape) -> nn.Module:
    weights = torch.randn(math.prod(shape), math.prod(shape), dtype=torch.float64).tril()

    def run(m: Sketch, x: Tensor) -> Tensor:
        mixed = (m.a(hot(x)).flatten(2) @ weights.T).view(-1, WIDTH, *shape)
        return m.out(F.elu(m.first(hot(x)) + mixed))
    return Sketch(run, a=conv(LEVELS), first=First(), out=head())


@leak(UnsupportedOpError, "all positions", "table of all pairs")
def masked_mean_by_hand(shape: Shape) -> nn.Module:
    """Causal, but a sum over positions that is no product."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.a(hot(x)).flatten(2)[:, :, None] * strict(shape)  # [B, C, P, P]
        return m.out(F.elu(m.first(hot(x)) + y.sum(3).view(-1, WIDTH, *shape)))
    return Sketch(run, a=conv(LEVELS), first=First(), out=head())


@network(shapes=((4, 5), (1, 4)))
def shared_values(shape: Shape) -> nn.Module:
    """Weights of one head for values of two, and queries of one for keys of two."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        one, two = (f(y).view(y.shape[0], n, 3, -1).transpose(2, 3) for f, n in ((m.one, 1), (m.two, 2)))
        same = start_mask(one @ one.transpose(2, 3), strict(shape)) @ two
        each = start_mask(one @ two.transpose(2, 3), strict(shape)) @ one
        mixed = (same + each).transpose(2, 3).reshape(y.shape)
        return m.out(F.elu(right(mixed) + y))
    return Sketch(run, first=First(), one=conv(out=3), two=conv(), out=head())


@leak(NotCausalError, "_softmax", "all positions of the canvas, later pixels included")
def layer_as_wide_as_the_canvas(shape: Shape) -> nn.Module:
    """Its weights could be keys; that reading gets no further, and the leak is named."""
    places = math.prod(shape)

    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.wide(m.first(hot(x)).flatten(2).transpose(1, 2))  # [B, P, P]
        y = m.narrow(torch.softmax(y, 1))
        return m.out(F.elu(y.transpose(1, 2).reshape(-1, WIDTH, *shape)))
    return Sketch(run, first=First(), wide=nn.Linear(WIDTH, places, bias=False), narrow=nn.Linear(places, WIDTH),
                  out=head())


@leak(UnsupportedOpError, "erfinv")
def keys_first_and_an_unknown_operation(shape: Shape) -> nn.Module:
    """What is wrong is said of the reading that is right, not of the one that was tried first."""
    mask = strict(shape)

    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        q, k, v = (f(y).flatten(2) for f in (m.q, m.k, m.v))  # [B, d, P]
        weights = torch.softmax((k.transpose(1, 2) @ q).masked_fill(~mask.T, -1e4), 1).masked_fill(~mask.T, 0)
        return m.out(y + torch.erfinv(torch.tanh((v @ weights).view_as(y))))
    return Sketch(run, first=First(), q=conv(out=3), k=conv(out=3), v=conv(), out=head())
