"""Convolutions of every shape, with borders of every kind."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .zoo import LEVELS, WIDTH, DownRight, First, Masked, Shape, Sketch, conv, down, head, hot, network, right


@network()
def shifted_after_bias(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(F.elu(m.first(hot(x)))), first=First(), out=head())


@network()
def shifted_before_conv(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(torch.tanh(m.a(down(hot(x))) + m.b(right(hot(x))))),
                  a=conv(LEVELS, kernel=(1, 3), padding=(0, 1)), b=conv(LEVELS), out=head())


@network(shapes=((4, 5), (2, 4), (4, 1)))
def odd_kernel_padded_then_cropped(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.wide(hot(x))[:, :, : x.shape[1]]  # rows -2..0, columns -2..2
        return m.out(F.relu(down(y)))
    return Sketch(run, wide=conv(LEVELS, kernel=(3, 5), padding=2), out=head())


@network(shapes=((4, 5), (1, 4), (4, 2)))
def even_kernels(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.four(F.pad(hot(x), [3, 0, 2, 0]))  # kernel 3 x 4, the pixel itself last
        return m.out(F.elu(m.two(F.pad(right(y), [1, 0, 1, 0]))))
    return Sketch(run, four=conv(LEVELS, kernel=(3, 4)), two=conv(kernel=(2, 2)), out=head())


@network(shapes=((4, 5), (2, 4), (4, 1)))
def valid_after_manual_pad(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        return m.out(F.elu(m.next(F.pad(y, [1, 1, 2, 0])[:, :, : x.shape[1] + 1])))
    return Sketch(run, first=First(), next=conv(kernel=(2, 3)), out=head())


@network()
def dilated(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        return m.out(F.elu(m.next(F.pad(y, [2, 2, 2, 0])[:, :, : x.shape[1] + 1])) + y)
    first, wide = First(), conv(kernel=(2, 3), dilation=(1, 2))
    return Sketch(run, first=first, next=wide, out=head())


@network()
def dilated_rows(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(F.elu(m.next(F.pad(m.first(hot(x)), [2, 0, 4, 0])))),
                  first=First(), next=conv(kernel=(3, 2), dilation=2), out=head())


@network()
def grouped(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(F.elu(m.next(F.pad(m.first(hot(x)), [1, 0, 1, 0])))),
                  first=First(), next=conv(kernel=2, groups=3), out=head())


@network()
def depthwise(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(m.mix(F.elu(m.each(F.pad(m.first(hot(x)), [1, 0, 1, 0]))))),
                  first=First(), each=conv(kernel=2, groups=WIDTH), mix=conv(), out=head())


@network()
def zero_taps(shape: Shape) -> nn.Module:
    first = conv(LEVELS, kernel=3, padding=1)
    with torch.no_grad():
        first.weight[:, :, 1, 1:] = 0
        first.weight[:, :, 2:] = 0
    return Sketch(lambda m, x: m.out(F.elu(m.first(hot(x)))), first=first, out=head())


@network()
def kernel_mask_by_product(shape: Shape) -> nn.Module:
    mask = torch.tensor([[1.0, 1, 1], [1, 0, 0], [0, 0, 0]])
    return Sketch(lambda m, x: m.out(F.elu(F.conv2d(hot(x), m.first.weight * mask, m.first.bias, padding=1))),
                  first=conv(LEVELS, kernel=3), out=head())


@network()
def pad_after_activation(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(m.next(F.pad(torch.sigmoid(m.first(hot(x))), [1, 0, 1, 0]))),
                  first=First(), next=conv(kernel=2), out=head())


@network()
def activation_after_pad(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(m.next(torch.sigmoid(F.pad(m.first(hot(x)), [1, 0, 1, 0])))),
                  first=First(), next=conv(kernel=2), out=head())


@network()
def pad_with_another_value(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        return m.out(F.elu(m.a(F.pad(y, [1, 0, 1, 0], value=-0.7)) + m.b(F.pad(y, [1, 0, 1, 0]))))
    return Sketch(run, first=First(), a=conv(kernel=2), b=conv(kernel=2), out=head())


@network(shapes=((4, 5), (2, 4), (4, 1)))
def pad_by_concatenation(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.a(hot(x))
        z = torch.cat([y.new_zeros(y.shape[0], WIDTH, 1, y.shape[3]), y[:, :, :-1]], 2)
        w = torch.cat([torch.zeros_like(y[:, :, :, :1]), y], 3)[:, :, :, : y.shape[3]]
        return m.out(F.elu(z + w))
    return Sketch(run, a=conv(LEVELS), out=head())


@network(shapes=((4, 5), (1, 4), (4, 2)))
def wider_than_the_canvas(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.a(right(hot(x))))  # H+2 x W+2, borders not 0
        return m.out(F.elu(m.b(y)[:, :, : x.shape[1], : x.shape[2]]))
    return Sketch(run, a=conv(LEVELS, kernel=(3, 1), padding=(2, 0)), b=conv(kernel=2, padding=1), out=head())


@network(shapes=((4, 5), (3, 4), (4, 1)))
def wider_on_all_sides(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.a(F.pad(hot(x), [3, 3, 3, 3]))
        y = torch.sigmoid(y)[:, :, 1: 1 + x.shape[1], 2: 2 + x.shape[2]]  # centre at row -2, column -1
        return m.out(m.b(y))
    return Sketch(run, a=conv(LEVELS, kernel=(2, 3)), b=conv(), out=head())


@network()
def shift_of_a_sum(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(F.elu(right(m.a(hot(x)) + torch.tanh(m.b(hot(x)))) + down(m.a(hot(x)), 2))),
                  a=conv(LEVELS), b=DownRight(LEVELS), out=head())


@network()
def shift_in_the_middle(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        return m.out(F.elu(y + right(m.a(y)) * torch.sigmoid(down(m.b(y)))))
    return Sketch(run, first=First(), a=conv(), b=DownRight(), out=head())


@network()
def embedded_codes(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.table(x).permute(0, 3, 1, 2)
        return m.out(F.elu(m.first(y)) + m.side(right(y)))
    return Sketch(run, table=nn.Embedding(LEVELS, 4), first=First(into=4), side=conv(4), out=head())


@network()
def scaled_codes(shape: Shape) -> nn.Module:
    """Grey levels as numbers, with a channel of ones that marks the canvas."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = x.unsqueeze(1).to(torch.float64) / 2 - 1
        y = torch.cat([y, torch.ones_like(y)], 1)
        return m.out(F.elu(m.first(y)))
    return Sketch(run, first=First(into=2), out=head())


class _Gated(nn.Module):
    """A gated 3x3 block of masked convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.skip = Masked("B", WIDTH, 2 * WIDTH, 3), nn.BatchNorm2d(WIDTH), conv()

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.conv(x).chunk(2, 1)
        return x + self.skip(self.norm(torch.tanh(a) * torch.sigmoid(b)))


@network(shapes=((4, 5), (9, 8), (1, 4), (4, 1)))
def masked_pixelcnn(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: F.log_softmax(m.out(F.relu(m.b(m.b0(m.a(hot(x)))))), 1),
                  a=Masked("A", LEVELS, WIDTH, 7), b0=_Gated(), b=_Gated(), out=head())


class TwoStack(nn.Module):
    """One layer of the gated PixelCNN: a vertical stack of rows above, and a horizontal one that it feeds."""

    def __init__(self, into: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.vertical, self.link = conv(into, 2 * WIDTH, (2, 3)), conv(2 * WIDTH, 2 * WIDTH)
        self.horizontal, self.out = conv(into, 2 * WIDTH, (1, 2)), conv()

    def forward(self, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        above = self.vertical(F.pad(v, [1, 1, 2 if self.first else 1, 0])[:, :, : v.shape[2] + 1])
        own = self.horizontal(F.pad(h, [2 if self.first else 1, 0, 0, 0])[:, :, :, : h.shape[3] + 1])
        left = F.glu(own + self.link(above), 1)
        return F.glu(above, 1), self.out(left) if self.first else h + self.out(left)


@network(shapes=((4, 5), (6, 3), (1, 4), (4, 1)))
def two_stack_pixelcnn(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        v, h = m.one(hot(x), hot(x))
        v, h = m.two(v, h)
        _, h = m.three(v, h)
        return m.out(F.relu(h))
    return Sketch(run, one=TwoStack(LEVELS, True), two=TwoStack(WIDTH, False), three=TwoStack(WIDTH, False), out=head())


class _Resnet(nn.Module):
    """The original's gated residual block: concat_elu or elu, 2x2 down-right convolutions, a gate."""

    def __init__(self, concat: bool) -> None:
        super().__init__()
        self.concat = concat
        wide = 2 if concat else 1
        self.a, self.b = DownRight(wide * WIDTH), DownRight(wide * WIDTH, 2 * WIDTH)

    def act(self, x: Tensor) -> Tensor:
        return F.elu(torch.cat([x, -x], 1)) if self.concat else F.elu(x)

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.chunk(self.b(self.act(self.a(self.act(x)))), 2, 1)
        return x + a * torch.sigmoid(b)


@network()
def original_down_right(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(F.elu(m.b(m.a(m.first(hot(x)))))),
                  first=First(), a=_Resnet(False), b=_Resnet(True), out=head())


@network()
def shifted_quarters(shape: Shape) -> nn.Module:
    def quarters(x: Tensor) -> Tensor:
        a, b, c, d = x.chunk(4, 1)
        up_right = F.pad(down(d), [0, 1, 0, 0])[:, :, :, 1:]
        return torch.cat([right(a), right(down(b)), down(c), up_right], 1)

    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(quarters(hot(x)[:, :4]))
        return m.out(F.elu(y + m.a(quarters(F.elu(y)))))
    return Sketch(run, first=conv(4, 8), a=conv(8, 8), out=head(8))


@network(shapes=((4, 5), (1, 4), (4, 2)))
def looks_ahead_in_rows_above(shape: Shape) -> nn.Module:
    """Values of rows above are read to the right of the position: known, since their row is drawn."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(down(m.a(hot(x))))
        left = F.pad(y, [0, 2, 0, 0])[:, :, :, 2:]
        return m.out(F.elu(m.b(left) + right(m.c(hot(x)))))
    return Sketch(run, a=conv(LEVELS), b=conv(kernel=(1, 3), padding=(0, 1)), c=conv(LEVELS), out=head())
