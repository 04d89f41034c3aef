"""Cutting: a part of a dimension, of one entry or more, and all parts of one."""

from __future__ import annotations

from dataclasses import replace

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.lowering import sequences
from pixelsnail_infer.export.lowering.axes import kinds_of, position_axis, solid
from pixelsnail_infer.export.lowering.elementwise import laid_out
from pixelsnail_infer.export.lowering.pads import widened
from pixelsnail_infer.export.lowering.positionwise import positionwise
from pixelsnail_infer.export.lowering.raster import cut_of, is_raster
from pixelsnail_infer.export.lowering.state import Lowering
from pixelsnail_infer.export.lowering.strides import every
from pixelsnail_infer.export.lowering.tokens import Part, Tokens
from pixelsnail_infer.export.lowering.views import Atom, View, size_of
from pixelsnail_infer.export.tracing.traced import BatchInt, TraceNode, Where

__all__ = ["chunk", "narrow", "select", "slice_", "split", "unbind"]


def narrow(view: Part, axis: int, start: int, size: int, where: Where) -> Part:
    """`size` entries of dimension `axis` from `start`."""
    total = size_of(view.dims[axis])
    if start == 0 and size == total:
        return view
    if isinstance(view, Tokens) or is_raster(view, axis):
        return sequences.narrow(view, axis, start, size, where)
    view = laid_out(view, where) if axis >= len(view.dims) - 2 else view
    dim = view.dims[axis]
    place = position_axis(view, axis)
    if place is not None:
        zero = torch.zeros((), dtype=view.node.dtype)
        return widened(view, axis, place, (-start, start + size - total), zero, where)
    kinds = [a for a in solid(dim) if a.kind != "e"]
    if any(a.kind != "c" for a in kinds):
        raise cut_of(dim, where)
    if not kinds:
        return replace(view, dims=(*view.dims[:axis], (Atom("e", size),), *view.dims[axis + 1:]))
    inner = size_of(tuple(kinds[1:]))
    if start % inner or size % inner:
        raise UnsupportedOpError(f"{where} cuts through the middle of a channel axis.")
    atom = kinds[0]
    channels = list(view.node.channels)
    channels[atom.axis] = size // inner
    attrs = {"axis": atom.axis, "start": start // inner, "size": size // inner}
    dims = list(view.dims)
    dims[axis] = (atom._replace(size=size // inner), *kinds[1:])
    return positionwise("slice", [view], tuple(channels), tuple(dims), where, attrs=attrs, keys=view.node.keys)


def slice_(state: Lowering, item: TraceNode) -> Part | torch.Tensor:
    view = state.get(item.args[0])
    axis = item.args[1] if len(item.args) > 1 else 0
    start = item.args[2] if len(item.args) > 2 and item.args[2] is not None else 0
    stop = item.args[3] if len(item.args) > 3 and item.args[3] is not None else 1 << 62
    step = item.args[4] if len(item.args) > 4 else 1
    axis %= len(view.dims)
    if any(isinstance(v, BatchInt) for v in (start, stop)) or any(a.kind == "b" for a in view.dims[axis]):
        if start == 0 and (isinstance(stop, BatchInt) or stop >= 1 << 60):
            return view
        raise UnsupportedOpError(f"{item.where} cuts along the batch.")
    total = size_of(view.dims[axis])
    start, stop = min(start + total if start < 0 else start, total), min(stop + total if stop < 0 else stop, total)
    if stop <= start:  # nothing at all, as of the rows above the first one: a constant
        sizes = [size_of(d) for d in view.dims]
        return torch.empty([0 if k == axis else size for k, size in enumerate(sizes)], dtype=view.node.dtype)
    cut = narrow(view, axis, start, stop - start, item.where)
    if step == 1:
        return cut
    if isinstance(cut, Tokens):
        raise UnsupportedOpError(f"{item.where} takes every {step}th token of a sequence, which is not understood.")
    return every(cut, axis, step, item.where)


def select(state: Lowering, item: TraceNode) -> View:
    view, axis, index = state.get(item.args[0]), item.args[1], item.args[2]
    axis %= len(view.dims)
    if kinds_of(view.dims[axis]) not in ([], ["c"], ["e"]) and position_axis(view, axis) is None:
        raise UnsupportedOpError(f"{item.where} selects one entry along the batch, keys or flattened positions.")
    cut = narrow(view, axis, index % size_of(view.dims[axis]), 1, item.where)
    assert isinstance(cut, View)  # no token was selected
    return replace(cut, dims=(*cut.dims[:axis], *cut.dims[axis + 1:]))


def split(state: Lowering, item: TraceNode) -> list[Part]:
    view, sizes = state.get(item.args[0]), item.args[1]
    axis = (item.args[2] if len(item.args) > 2 else item.kwargs.get("dim", 0)) % len(view.dims)
    total = size_of(view.dims[axis])
    if isinstance(sizes, int):
        sizes = [min(sizes, total - start) for start in range(0, total, sizes)]
    starts = [sum(sizes[:k]) for k in range(len(sizes))]
    return [narrow(view, axis, start, size, item.where) for start, size in zip(starts, sizes, strict=True)]


def chunk(state: Lowering, item: TraceNode) -> list[Part]:
    view = state.get(item.args[0])
    axis = (item.args[2] if len(item.args) > 2 else 0) % len(view.dims)
    size = -(-size_of(view.dims[axis]) // item.args[1])
    return split(state, TraceNode("split", (item.args[0], size, axis), {}, item.outputs, item.where))


def unbind(state: Lowering, item: TraceNode) -> list[View]:
    axis = item.args[1] if len(item.args) > 1 else 0
    count = size_of(state.get(item.args[0]).dims[axis])
    return [select(state, TraceNode("select", (item.args[0], axis, k), {}, item.outputs, item.where))
            for k in range(count)]
