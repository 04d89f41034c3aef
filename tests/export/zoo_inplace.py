"""Networks that write in place: into slices and other views, into buffers piece by piece, into their own weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .zoo import LEVELS, WIDTH, DownRight, First, Shape, Sketch, conv, head, hot, network
from .zoo_attention import strict
from .zoo_conditions import image, label

WIDE = ((4, 5), (3, 3))


def sketch(run: object, **parts: nn.Module) -> nn.Module:
    return Sketch(run, first=First(), next=DownRight(), out=head(), **parts)  # type: ignore[arg-type]


@network()
def rows_written_from_the_rows_above(shape: Shape) -> nn.Module:
    """The shift by one row as it is often written: zeros, and all but the last row into all but the first."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        z = torch.zeros_like(y)
        z[:, :, 1:] = m.next(y)[:, :, :-1]
        return m.out(z + y)
    return sketch(run)


@network()
def shifts_added_to_slices(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        z = torch.tanh(y)
        y[:, :, 1:] += z[:, :, :-1]
        y[:, :, :, 1:] -= z[..., :-1]
        y[..., 2:, 1:] *= z[..., :-2, :-1]
        return m.out(y)
    return sketch(run)


@network()
def both_names_see_a_write(shape: Shape) -> nn.Module:
    """A view and what it is a view of, each changed and each read afterwards."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        z = y.view(x.shape[0], 2, WIDTH // 2, -1)
        last = z[:, 1]
        z.add_(0.5)
        y.mul_(2)
        z[:, 0] *= last
        return m.out(F.elu(y) + z.view_as(y))
    return sketch(run)


@network()
def a_view_of_what_is_changed(shape: Shape) -> nn.Module:
    """A view is kept, its base changed in place, and the view read again."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        a = y[:, :3]
        y.mul_(2)
        return m.out(torch.cat([a, y[:, 3:]], 1))
    return sketch(run)


@network()
def pieces_changed(shape: Shape) -> nn.Module:
    """Chunks, splits and single channels of one value, in place and in any order."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        a, b = y.chunk(2, 1)
        a.sigmoid_()
        b.mul_(a).relu_()
        one, two, three = y.split([1, 2, 3], 1)
        three.clamp_(max=0.4)
        two.masked_fill_(two < 0.3, 0.1)
        (last,) = y[:, 5:].unbind(1)
        last.mul_(2)
        for k, channel in enumerate(y.unbind(1)):
            channel.add_(0.1 * k)
        return m.out(y + one)
    return sketch(run)


@network()
def chains_of_views(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        turned = y.permute(0, 2, 3, 1)
        turned[..., 1:].add_(1)
        turned.transpose(1, 2)[..., 0].copy_(turned[..., 1].transpose(1, 2))
        y.unsqueeze(1).view(x.shape[0], 3, 2, *shape)[:, :, 0].mul_(-0.5)
        y.flatten(2).transpose(1, 2)[:, :, 2:4].tanh_()
        y.squeeze(0).narrow(-3, 5, 1).exp_()
        return m.out(turned.permute(0, 3, 1, 2))
    return sketch(run)


@network()
def parts_of_buffers_in_another_order(shape: Shape) -> nn.Module:
    """Channels of one row of turned zeros, and channels of a value beside a number."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        z = torch.zeros_like(y)
        z.unsqueeze(1).transpose(2, 3)[:, 0, -1:, :1].copy_(y.transpose(1, 2)[:, -1:, :1])
        given = F.pad(y[:, :1], [0, 0, 0, 0, 0, 1], value=1.0)
        given[:, 0] = 0.3
        given[:, :1] += y[:, :1]
        return m.out(z + y * given[:, :1] + given[:, 1:])
    return sketch(run)


@network()
def shown_in_another_order_in_place(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        z = y[:, :4]
        z.unsqueeze_(1).transpose_(1, 2)
        z[:, 1:, 0].mul_(0.5)
        return m.out(y + z.squeeze_(2).sum(1, keepdim=True))
    return sketch(run)


@network(shapes=WIDE)
def constants_written(shape: Shape) -> nn.Module:
    """Numbers, vectors and maps written into rows, columns and channels."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        y[:, :, 0] = 0.5
        y[..., -1] = m.column
        y[:, 1:3] = m.map
        y[:, 4, 1:] = 0
        y[:, :, ::2] = -0.3
        y[:, 3:, 1:-1].zero_()
        return m.out(F.elu(m.next(y)))
    made = sketch(run)
    made.register_buffer("column", torch.randn(WIDTH, shape[0]))
    made.register_buffer("map", torch.randn(2, *shape))
    return made


@network()
def written_at_masks_and_indices(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        y[y < -0.2] = 0.3
        y[:, :, m.some] = 0.1
        y[:, [0, 3]] = torch.tanh(y[:, 1:3])
        y.index_fill_(1, m.which, 0.7)
        y[:, 2].gt_(0.1)
        y.index_copy_(1, m.which + 1, y[:, :1].clone())
        return m.out(y)
    made = sketch(run)
    made.register_buffer("some", torch.arange(shape[0] * shape[1]).view(shape) % 3 == 1)
    made.register_buffer("which", torch.tensor([4]))
    return made


@network()
def channels_filled_one_by_one(shape: Shape) -> nn.Module:
    """Memory that nothing was written into yet, filled whole."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        z = torch.empty_like(y)
        for k in range(WIDTH):
            z[:, k] = y[:, k] * y[:, WIDTH - 1 - k]
        pairs = y.new_empty(y.shape)
        pairs[:, ::2], pairs[:, 1::2] = z[:, 3:], y[:, :3]
        return m.out(pairs)
    return sketch(run)


@network()
def rows_filled_one_by_one(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        z = torch.empty_like(y)
        for i in range(shape[0]):
            z[:, :, i] = torch.tanh(y[:, :, i]) * 2
        for j in reversed(range(shape[1])):
            z[..., j] += F.elu(y[..., j])
        return m.out(z)
    return sketch(run)


@network()
def a_recurrence_over_rows_and_columns(shape: Shape) -> nn.Module:
    """A buffer into which every row is written from the one above, and every column from the one to the left."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        z = torch.zeros_like(y)
        for i in range(shape[0]):
            z[:, :, i] = torch.tanh(y[:, :, i] + (0.5 * z[:, :, i - 1] if i else 0))
        for j in range(1, shape[1]):
            z[..., j] += 0.3 * z[..., j - 1]
        return m.out(z)
    return sketch(run)


@network(shapes=((4, 5), (3, 4), (2, 5)))
def a_crop_changed(shape: Shape) -> nn.Module:
    """Layers on a part of the canvas, padded there, and written back."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        part = y[:, :, 1:, :-1]
        part = m.next(F.elu(m.next(torch.tanh(part))))
        y[:, :, 1:, :-1] = F.pad(part, [1, 0, 0, 0], value=0.2)[..., :-1]
        return m.out(y)
    return sketch(run)


@network()
def one_hot_by_scatter(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = torch.zeros(x.shape[0], LEVELS, *shape, dtype=torch.float64).scatter_(1, x.unsqueeze(1), 1)
        return m.out(m.first(y))
    return sketch(run)


@network()
def one_hot_by_assignment(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = torch.zeros(x.shape[0], LEVELS, *shape, dtype=torch.float64)
        for level in range(LEVELS):
            y[:, level] = (x == level).to(y.dtype)
        return m.out(m.first(y))
    return sketch(run)


@network()
def one_hot_by_rows(shape: Shape) -> nn.Module:
    """A row for every pixel of the batch, and a 1 in each."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = torch.zeros(x.numel(), LEVELS, dtype=torch.float64)
        y[torch.arange(x.numel()), x.flatten()] = 1
        return m.out(m.first(y.view(*x.shape, LEVELS).permute(0, 3, 1, 2)))
    return sketch(run)


@network(shapes=WIDE)
def values_scattered(shape: Shape) -> nn.Module:
    """At the level of the pixel to the left, a value of its own; two levels at once, and fixed ones."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        left = F.pad(x, [1, 0])[:, :, :-1].unsqueeze(1)
        y.scatter_(1, left, y[:, :1].clone())
        y.scatter_(1, torch.cat([left, left + 1], 1), y[:, 3:5].clone())
        y.scatter_(1, torch.full_like(left, 2), 0.25)
        return m.out(y)
    return sketch(run)


@network(conditions=label, shapes=WIDE)
def a_label_written_into_rows(shape: Shape) -> nn.Module:
    """A vector that depends on a condition in the first row, and what depends on pixels into a map of it."""
    def run(m: Sketch, x: Tensor, c: Tensor) -> Tensor:
        y, c = m.first(hot(x)), m.h(c)
        y[:, :, 0] = c[:, :, None]
        z = c[:, :, None, None].repeat(1, 1, *shape)
        z[..., 2:] = torch.tanh(y[..., 1:-1])
        return m.out(y + z)
    return sketch(run, h=nn.Embedding(3, WIDTH))


@network(conditions=image, shapes=WIDE)
def inputs_written(shape: Shape) -> nn.Module:
    """The caller's tensors, changed by the forward: what it was given counts."""
    def run(m: Sketch, x: Tensor, c: Tensor) -> Tensor:
        before = hot(x)
        x[:, 0] = 2
        x.clamp_(max=LEVELS - 2)
        c[:, :1] *= 2
        c[..., 1:].tanh_()
        return m.out(m.first(hot(x) + before) + m.c(c))
    return sketch(run, c=conv(2))


@network()
def a_buffer_of_the_module(shape: Shape) -> nn.Module:
    """Working memory that the module keeps; each forward writes what it reads."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        space = m.space.expand(x.shape[0], -1, -1, -1).clone()
        inner = space[:, :, 1:, 1:-1]
        inner.copy_(y)
        m.row[:] = 0.5
        z = y * m.row[:, None, None]
        m.row[:] = 0.25
        return m.out(F.elu(m.wide(space)) + z * m.row[:, None, None])
    made = sketch(run, wide=conv(kernel=(2, 3)))
    made.register_buffer("space", torch.zeros(1, WIDTH, shape[0] + 1, shape[1] + 2))
    made.register_buffer("row", torch.zeros(WIDTH))
    with torch.no_grad():
        made.wide.weight[:, :, 1, 2] = 0  # type: ignore[union-attr, index]
    return made


@network()
def weights_masked_in_slices(shape: Shape) -> nn.Module:
    """What public masked convolutions do, each in its own words, in every forward."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        m.a.weight.data[:, :, 1, 1:] = 0
        m.a.weight.data[:, :, 2].zero_()
        m.b.weight.data.mul_(m.mask)
        m.b.bias.data.clamp_(-0.1, 0.1)
        return m.out(F.elu(m.b(F.elu(m.a(hot(x))))))
    made = sketch(run, a=conv(LEVELS, kernel=3, padding=1), b=conv(kernel=3, padding=1))
    mask = torch.ones(3, 3)
    mask[1, 2:], mask[2] = 0, 0
    made.register_buffer("mask", mask)
    return made


@network(shapes=((4, 5), (4, 1)))
def scores_masked_by_assignment(shape: Shape) -> nn.Module:
    """Attention whose scores are filled where a mask says so, and whose first query is set to nothing."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        q = y.flatten(2).transpose(1, 2)
        scores = q @ q.transpose(1, 2)
        scores.div_(2)[:, ~m.mask] = -1e9
        weights = torch.softmax(scores, -1)
        weights[:, 0] = 0
        return m.out(y + (weights @ q).transpose(1, 2).reshape(y.shape))
    made = sketch(run)
    made.register_buffer("mask", strict(shape).bool())
    return made


@network()
def results_written_elsewhere(shape: Shape) -> nn.Module:
    """`out=`, into a value and into fresh memory."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        torch.add(y, 1, out=y)
        z = torch.empty(y.shape, dtype=y.dtype)
        torch.cat([y[:, 3:], y[:, :3] * 2], 1, out=z)
        return m.out(torch.mul(y, z, out=torch.empty_like(y)))
    return sketch(run)
