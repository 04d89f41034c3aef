"""Networks with values of coarser lattices than the pixels': halved and doubled canvases, and what becomes of them."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.errors import NotCausalError, UnsupportedOpError
from pixelsnail_infer.export.tracing.trace import InputSpec

from .zoo import LEVELS, STRIDED, WIDTH, DownRight, First, Shape, Sketch, conv, down, head, hot, leak, network, right

strided = functools.partial(network, into=STRIDED)
SQUARES: tuple[Shape, ...] = ((4, 6), (6, 4), (2, 8))


class Halved(nn.Module):
    """A shifted convolution of a stride: rows above and its own, columns to the left, and as many to the right."""

    def __init__(self, kernel: Shape = (2, 3), stride: Shape = (2, 2), both: bool = True) -> None:
        super().__init__()
        self.conv, (rows, columns) = conv(kernel=kernel, stride=stride), kernel
        aside = [columns // 2, (columns - 1) // 2] if both else [columns - 1, 0]
        self.pad = [*aside, rows - 1, 0]

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, self.pad))


class Doubled(nn.Module):
    """A transposed convolution, cropped as PixelCNN++ crops it."""

    def __init__(self, kernel: Shape = (2, 3), stride: Shape = (2, 2), both: bool = True) -> None:
        super().__init__()
        extra = tuple(max(0, step - size) + (size >= step > 1) for step, size in zip(stride, kernel, strict=True))
        self.up, self.kernel, self.stride = nn.ConvTranspose2d(WIDTH, WIDTH, kernel, stride, 0, extra), kernel, stride
        self.left = (kernel[1] - 1) // 2 if both else 0

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(x)
        height, width = (size * step for size, step in zip(x.shape[2:], self.stride, strict=True))
        return y[:, :, :height, self.left:self.left + width]


class Two(nn.Module):
    """Both streams of PixelCNN++ one level down and up again, with a convolution of each on the coarse canvas."""

    def __init__(self, stride: Shape = (2, 2), inner: nn.Module | None = None) -> None:
        super().__init__()
        self.above, self.left = Halved((2, 3), stride), Halved((2, 2), stride, False)
        self.middle, self.own = Halved((2, 3), (1, 1)), DownRight()
        self.inner = inner
        self.up_above, self.up_left = Doubled((2, 3), stride), Doubled((2, 2), stride, False)

    def forward(self, above: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        a, b = F.elu(self.above(above)), F.elu(self.left(left))
        a = a + self.middle(a)
        b = torch.tanh(self.own(b) + a)
        if self.inner is not None:
            a, b = self.inner(a, b)
        return above + self.up_above(a), left + self.up_left(F.elu(b))


class Streams(nn.Module):
    """Rows above as one stream, all that is drawn as another, through `levels`."""

    def __init__(self, levels: nn.Module) -> None:
        super().__init__()
        self.first, self.above, self.levels, self.out = First(), conv(LEVELS, kernel=(2, 3)), levels, head(2 * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        pixels = hot(x)
        above, left = down(self.above(F.pad(pixels, [1, 1, 1, 0]))), self.first(pixels)
        return self.out(torch.cat(self.levels(above, left), 1))


@strided(shapes=SQUARES)
def one_level(shape: Shape) -> nn.Module:
    return Streams(Two())


@strided(shapes=((8, 8), (4, 12), (8, 4)))
def nested_twice(shape: Shape) -> nn.Module:
    return Streams(Two(inner=Two()))


@strided(shapes=((4, 5), (6, 1)))
def rows_only(shape: Shape) -> nn.Module:
    return Streams(Two((2, 1)))


@strided(shapes=((3, 6), (1, 4)))
def columns_only(shape: Shape) -> nn.Module:
    return Streams(Two((1, 2)))


@strided(shapes=((6, 9),))
def thirds_and_halves(shape: Shape) -> nn.Module:
    return Streams(Two((2, 3)))


@strided(shapes=SQUARES)
def kernels_of_one(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        return m.out(F.elu(y + m.up(torch.tanh(m.next(m.coarse(y))))))
    return Sketch(run, first=First(), coarse=Halved((1, 1)), next=DownRight(), up=Doubled((1, 1)), out=head())


@strided(shapes=SQUARES)
def kernels_of_three(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        return m.out(F.elu(y + m.up(torch.tanh(m.coarse(y)))))
    return Sketch(run, first=First(), coarse=Halved((3, 3), both=False), up=Doubled((3, 3), both=False), out=head())


@strided(shapes=SQUARES)
def upsampled_blocks(shape: Shape) -> nn.Module:
    """Whole blocks, shifted by one of them and repeated."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        blocks = m.coarse(hot(x))
        above = down(blocks)
        beside = m.first(hot(x))
        return m.out(beside + F.interpolate(torch.tanh(above), scale_factor=2, mode="nearest"))
    return Sketch(run, first=First(), coarse=conv(LEVELS, kernel=2, stride=2), out=head())


@strided(shapes=SQUARES)
def repeated_rows_and_columns(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        coarse = F.elu(m.next(y[:, :, ::2, ::2]))
        return m.out(y * coarse.repeat_interleave(2, 2).repeat_interleave(2, dim=3))
    return Sketch(run, first=First(), next=DownRight(), out=head())


@strided(shapes=SQUARES)
def upsampled_and_shifted(shape: Shape) -> nn.Module:
    """Held values whose blocks do not begin at multiples of the stride: moved by one pixel and by three."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        up = F.interpolate(m.coarse(y), scale_factor=2)
        return m.out(F.elu(right(up) + down(m.other(up), 3) + y))
    return Sketch(run, first=First(), coarse=Halved((2, 2), both=False), other=conv(), out=head())


@strided(shapes=SQUARES)
def every_second_row(shape: Shape) -> nn.Module:
    """Odd rows and even columns, which are known by the time that the rows below need them."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        odd = torch.sigmoid(m.next(y[:, :, 1::2, ::2]))
        return m.out(y + down(F.interpolate(odd, scale_factor=2), 2))
    return Sketch(run, first=First(), next=DownRight(), out=head())


@strided(shapes=((8, 8),))
def quarters_by_one_layer(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        return m.out(y + F.interpolate(m.coarse(F.pad(y, [3, 0, 3, 0])), scale_factor=4))
    return Sketch(run, first=First(), coarse=conv(kernel=4, stride=4), out=head())


@strided(shapes=((4, 6), (8, 4)), conditions=lambda shape: (InputSpec("label", (), torch.int64, 7),))
def strided_with_a_label(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor, label: Tensor) -> Tensor:
        y = m.first(hot(x))
        above, left = m.levels(down(y), y)
        return m.out(F.elu(torch.cat([above, left], 1)) + m.label(label)[:, :, None, None])
    return Sketch(run, first=First(), levels=Labelled(), label=nn.Embedding(7, 2 * WIDTH), out=head(2 * WIDTH))


class Labelled(Two):
    """With a learned table on the coarse canvas."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, WIDTH, 16, 16))

    def forward(self, above: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        height, width = above.shape[2] // 2, above.shape[3] // 2
        a = self.above(above) * self.table[:, :, :height, :width]
        return above + self.up_above(a), left + self.up_left(torch.tanh(self.left(left) + down(a)))


@strided(shapes=((4, 6),), conditions=lambda shape: (InputSpec("map", (3, *shape), torch.float64),))
def strided_condition(shape: Shape) -> nn.Module:
    """A condition that is halved and doubled itself, met on both canvases."""
    def run(m: Sketch, x: Tensor, given: Tensor) -> Tensor:
        y, coarse = m.first(hot(x)), m.look(given)
        z = F.elu(m.coarse(y) + coarse) * right(coarse)
        return m.out(y + m.up(z) + m.again(coarse))
    return Sketch(run, first=First(), look=conv(3, kernel=3, stride=2, padding=1), coarse=Halved((2, 2), both=False),
                  up=Doubled((2, 2), both=False), again=nn.ConvTranspose2d(WIDTH, WIDTH, 2, 2), out=head())


@strided(shapes=((4, 6),), conditions=lambda shape: (InputSpec("map", (3, 2, 3), torch.float64),))
def coarse_condition(shape: Shape) -> nn.Module:
    """A condition on half the canvas, which meets the pixels there, and by a transposed convolution."""
    def run(m: Sketch, x: Tensor, given: Tensor) -> Tensor:
        y, coarse = m.first(hot(x)), m.look(given)
        return m.out(y * m.again(coarse) + F.interpolate(F.elu(m.coarse(y) + coarse), scale_factor=2))
    return Sketch(run, first=First(), look=conv(3), coarse=Halved((2, 2), both=False),
                  again=nn.ConvTranspose2d(WIDTH, WIDTH, 3, 2, 1, 1), out=head())


@strided(shapes=((4, 6),))
def grouped_and_dilated(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        up = m.up(F.elu(m.coarse(F.pad(y, [2, 0, 2, 0]))))[:, :, :shape[0], :shape[1]]
        return m.out(y + up)
    return Sketch(run, first=First(), coarse=conv(kernel=2, stride=2, dilation=2, groups=2),
                  up=nn.ConvTranspose2d(WIDTH, WIDTH, 2, 2, 0, 1, groups=3, dilation=2), out=head())


@strided(shapes=((4, 6),))
def pads_with_a_bias_below(shape: Shape) -> nn.Module:
    """Outside of the coarse canvas every channel finds another number."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        z = m.one(F.pad(m.coarse(y), [2, 0, 2, 0]))
        return m.out(y + m.up(m.two(F.elu(z))))
    return Sketch(run, first=First(), coarse=Halved((2, 2), both=False), one=conv(kernel=2), two=conv(kernel=2),
                  up=Doubled((2, 2), both=False), out=head())


@leak(NotCausalError, "not drawn yet", shape=(4, 6))
def blocks_that_see_themselves(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(F.interpolate(m.coarse(hot(x)), scale_factor=2)),
                  coarse=conv(LEVELS, kernel=2, stride=2), out=head())


@leak(NotCausalError, "not drawn yet", "up", shape=(4, 6))
def an_upward_path_one_row_early(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        return m.out(y + m.up(m.coarse(y))[:, :, 1:shape[0] + 1, :shape[1]])
    return Sketch(run, first=First(), coarse=Halved((2, 2), both=False),
                  up=nn.ConvTranspose2d(WIDTH, WIDTH, 3, 2), out=head())


@leak(NotCausalError, "not drawn yet", shape=(4, 6))
def a_block_shifted_by_one_pixel_only(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(right(F.interpolate(m.coarse(hot(x)), scale_factor=(1, 2)))),
                  coarse=conv(LEVELS, kernel=(1, 2), stride=(1, 2)), out=head())


@leak(UnsupportedOpError, "a multiple of that", "4x5", shape=(4, 5))
def a_canvas_that_the_stride_does_not_divide(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        return m.out(y + F.interpolate(m.coarse(F.pad(y, [1, 1])), scale_factor=2)[..., :5])
    return Sketch(run, first=First(), coarse=conv(kernel=(1, 2), stride=2), out=head())


@leak(UnsupportedOpError, "no prediction sees them", shape=(4, 6))
def known_in_the_middle_of_a_block(shape: Shape) -> nn.Module:
    """Columns 3k and 3k + 1, which only column 3k + 2 reads."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        up = m.up(m.coarse(hot(x)))
        return m.out(m.first(hot(x)) + F.pad(up, [2, 0])[..., :shape[1]])
    return Sketch(run, first=First(), coarse=conv(LEVELS, kernel=(1, 2), stride=(1, 3)),
                  up=nn.ConvTranspose2d(WIDTH, WIDTH, 1, (1, 3)), out=head())


@leak(UnsupportedOpError, "finer than the pixels", shape=(4, 6))
def finer_than_the_pixels(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(m.coarse(F.interpolate(m.first(hot(x)), scale_factor=2))),
                  first=First(), coarse=conv(kernel=2, stride=2), out=head())


@leak(UnsupportedOpError, "pixels apart meet", shape=(4, 6))
def a_corner_meets_a_coarse_canvas(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(F.interpolate((y := m.first(hot(x)))[:, :, :2, :3] + m.coarse(y), scale_factor=2)),
                  first=First(), coarse=Halved(), out=head())


@leak(UnsupportedOpError, "pixels apart", "attention", shape=(4, 6))
def attention_over_a_coarse_canvas(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.coarse(m.first(hot(x)))
        flat = y.flatten(2).transpose(1, 2)
        mixed = torch.softmax(flat @ flat.transpose(1, 2), 2) @ flat
        return m.out(F.interpolate(mixed.transpose(1, 2).view_as(y), scale_factor=2))
    return Sketch(run, first=First(), coarse=Halved(), out=head())
