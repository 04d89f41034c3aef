"""Writes in place that are refused: those that bring a later pixel in, and those that are not well defined."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pixelsnail_infer.errors import NotCausalError, UnsupportedOpError

from .zoo import LEVELS, Shape, Sketch, hot, leak
from .zoo_inplace import sketch


@leak(NotCausalError, "offset (row +1", "add_ in module", "reads at offset (row +1, column +0)")
def a_later_row_added_to_a_slice(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        y[:, :, :-1] += torch.tanh(y)[:, :, 1:]
        return m.out(y)
    return sketch(run)


@leak(NotCausalError, "offset (row +0, column +0)")
def the_pixel_itself_written_into_a_column(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        y[:, :LEVELS, :, 1:] = hot(x)[..., 1:]
        return m.out(y)
    return sketch(run)


@leak(UnsupportedOpError, "mul_ in module '(root)' (zoo_inplace_leaks.py", "writes into expand", "at several places")
def written_through_expand(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        y[:, :1].expand(-1, 4, -1, -1)[:, 1:2].mul_(2)
        return m.out(y)
    return sketch(run)


@leak(UnsupportedOpError, "zero_ in module '(root)' (zoo_inplace_leaks.py", "writes into as_strided", "clone")
def written_through_strides(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        y.as_strided((2, 2), (1, 1)).zero_()
        return m.out(y)
    return sketch(run)


@leak(UnsupportedOpError, "index_put_ in module '(root)' (zoo_inplace_leaks.py", "indices that depend on pixels")
def written_at_a_pixel(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        y[:, x[0, 0]] = 1
        return m.out(y)
    return sketch(run)


@leak(UnsupportedOpError, "index_put_ in module '(root)' (zoo_inplace_leaks.py", "adds at indices")
def added_at_indices(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        y.index_put_((torch.zeros(1, dtype=torch.int64),), y[:1], accumulate=True)
        return m.out(y)
    return sketch(run)


@leak(UnsupportedOpError, "index_copy_ in module '(root)' (zoo_inplace_leaks.py", "expected different ones")
def written_twice_at_an_index(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        y.index_copy_(1, torch.tensor([2, 2]), y[:, :2].clone())
        return m.out(y)
    return sketch(run)


@leak(UnsupportedOpError, "resize_ in module '(root)' (zoo_inplace_leaks.py", "another size")
def resized(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        y.resize_(x.shape[0], 3, *shape)
        return m.out(y)
    return sketch(run)


@leak(UnsupportedOpError, "masked_scatter_ in module '(root)' (zoo_inplace_leaks.py", "not understood")
def scattered_by_a_mask(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        return m.out(y.masked_scatter_(y > 0, torch.zeros(10_000, dtype=y.dtype)))
    return sketch(run)


@leak(UnsupportedOpError, "fill_ in module '(root)' (zoo_inplace_leaks.py", "one image of a batch")
def one_image_written(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        y[0] = 1
        return m.out(y)
    return sketch(run)


@leak(UnsupportedOpError, "copy_ in module '(root)' (zoo_inplace_leaks.py", "every 2th entry")
def every_other_row_written(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        y[:, :, 1::2] = torch.tanh(y)[:, :, :2]
        return m.out(y)
    return sketch(run)
