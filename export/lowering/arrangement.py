"""Views, permutes, pads, slices and concatenations: they regroup axes, move windows, or join channels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.lowering import sequences
from pixelsnail_infer.export.lowering.axes import kinds_of, largest, position_axis, solid, with_axes
from pixelsnail_infer.export.lowering.elementwise import constant, laid_out, materialised
from pixelsnail_infer.export.lowering.pads import pad_window, widened
from pixelsnail_infer.export.lowering.positionwise import positionwise, repeated
from pixelsnail_infer.export.lowering.raster import is_raster
from pixelsnail_infer.export.lowering.state import Lowering
from pixelsnail_infer.export.lowering.strides import repeats
from pixelsnail_infer.export.lowering.tokens import Part, Tokens
from pixelsnail_infer.export.lowering.views import Atom, Dim, View, drop_axes, regroup, size_of
from pixelsnail_infer.export.tracing.traced import TraceNode, Where

__all__ = ["concatenate", "expand", "join_channels", "joined", "pad", "permute", "repeat", "reshape",
           "squeeze", "stack", "transpose", "unsqueeze"]


def reshape(state: Lowering, item: TraceNode) -> View:
    return repeats(regroup(state.get(item.args[0]), list(item.args[1]), item.where), item.where)


def permute(state: Lowering, item: TraceNode) -> View:
    view = state.get(item.args[0])
    return replace(view, dims=tuple(view.dims[k] for k in item.args[1]))


def transpose(state: Lowering, item: TraceNode) -> View:
    view = state.get(item.args[0])
    dims = list(view.dims)
    a, b = item.args[1:3] if len(item.args) > 1 else (0, 1)
    dims[a], dims[b] = dims[b], dims[a]
    return replace(view, dims=tuple(dims))


def unsqueeze(state: Lowering, item: TraceNode) -> View:
    view, axis = state.get(item.args[0]), item.args[1]
    axis = axis + len(view.dims) + 1 if axis < 0 else axis
    return replace(view, dims=(*view.dims[:axis], (), *view.dims[axis:]))


def squeeze(state: Lowering, item: TraceNode) -> View:
    view = state.get(item.args[0])
    axes = item.args[1] if len(item.args) > 1 else range(len(view.dims))
    axes = {a % len(view.dims) for a in (axes if isinstance(axes, (list, tuple, range)) else [axes])}
    dropped = {a for a in axes if size_of(view.dims[a]) == 1 and not any(atom.kind == "b" for atom in view.dims[a])}
    return replace(view, dims=tuple(d for k, d in enumerate(view.dims) if k not in dropped))


def expand(state: Lowering, item: TraceNode) -> View:
    view, sizes = state.get(item.args[0]), item.args[1]
    view = replace(view, dims=((),) * (len(sizes) - len(view.dims)) + view.dims)
    for axis, size in enumerate(sizes):
        if not isinstance(size, int) or size <= 1 or size_of(view.dims[axis]) > 1:
            continue
        place = None if view.node.pixel else position_axis(view, axis)
        if place is None:
            view = replace(view, dims=(*view.dims[:axis], (Atom("e", size),), *view.dims[axis + 1:]))
        else:  # the one row or column of a condition's map
            assert view.frame is not None
            frame, axes = ((size, view.frame[1]), (axis, None)) if place == 0 else ((view.frame[0], size), (None, axis))
            view = repeated(view, frame, item.where)
            view = replace(view, dims=with_axes(view.dims, axes, frame))
    return view


def repeat(state: Lowering, item: TraceNode) -> View:
    """Copies side by side: of an axis of one element it is `expand`, of channels a concatenation."""
    view, counts = state.get(item.args[0]), item.args[1]
    view = replace(view, dims=((),) * (len(counts) - len(view.dims)) + view.dims)
    sizes = [c if size_of(d) == 1 else 1 for c, d in zip(counts, view.dims, strict=True)]
    copied = expand(state, TraceNode("expand", (item.args[0], sizes), {}, item.outputs, item.where))
    for axis, (count, size) in enumerate(zip(counts, sizes, strict=True)):
        if count != size:
            copied = join([copied] * count, axis, item.where)
    return copied


def pad(state: Lowering, item: TraceNode) -> Part:
    view, amounts = state.get(item.args[0]), item.args[1]
    if any(amounts[:4]) and isinstance(view, View):
        view = laid_out(view, item.where)
    value = float(item.args[2]) if len(item.args) > 2 else 0.0
    low, high, axes = [0, 0], [0, 0], list[int | None]((None, None))
    for k in range(len(amounts) // 2):
        before, after = amounts[2 * k], amounts[2 * k + 1]
        if not before and not after:
            continue
        place = len(view.dims) - 1 - k
        if isinstance(view, Tokens) or is_raster(view, place):
            view = sequences.pad(view, place, (before, after), value, item.where)
            continue
        axis = position_axis(view, place)
        if axis is None:
            view = _pad_channels(view, place, (before, after), value, item.where)
        else:
            axes[axis], low[axis], high[axis] = place, before, after
    if axes == [None, None]:
        return view
    border = torch.tensor(value, dtype=view.node.dtype)
    return pad_window(view, (axes[0], axes[1]), (low[0], low[1]), (high[0], high[1]), border, item.where)


def _pad_channels(view: View, axis: int, amounts: tuple[int, int], value: float, where: Where) -> View:
    """Constant channels before and after."""
    if min(amounts) < 0 or any(a.kind != "c" for a in solid(view.dims[axis])):
        raise UnsupportedOpError(f"{where} pads an axis that is neither rows, columns nor channels.")
    sizes = [1] * len(view.dims)
    fill = [torch.full((*sizes[:axis], n, *sizes[axis + 1:]), value, dtype=view.node.dtype) for n in amounts]
    return join([*([fill[0]] if amounts[0] else []), view, *([fill[1]] if amounts[1] else [])], axis, where)


def stack(state: Lowering, item: TraceNode) -> View:
    parts = state.get(item.args[0])
    axis = item.args[1] if len(item.args) > 1 else 0
    rank = next(len(p.dims) if isinstance(p, View) else p.ndim for p in parts) + 1
    axis %= rank
    new = [replace(p, dims=(*p.dims[:axis], (), *p.dims[axis:])) if isinstance(p, View) else p.unsqueeze(axis)
           for p in parts]
    return join(new, axis, item.where)


def concatenate(state: Lowering, item: TraceNode) -> Part:
    parts = state.get(item.args[0])
    rank = next(len(p.dims) for p in parts if isinstance(p, (View, Tokens)))
    axis = (item.args[1] if len(item.args) > 1 else 0) % rank
    if any(isinstance(p, Tokens) or (isinstance(p, View) and is_raster(p, axis)) for p in parts):
        return sequences.join(parts, axis, item.where)
    return join([p for p in parts if isinstance(p, View) or p.numel()], axis, item.where)


def join(parts: Sequence[View | torch.Tensor], axis: int, where: Where) -> View:
    """Concatenate along dimension `axis`: channels are joined; a constant along rows or columns is a pad."""
    views = [p for p in parts if isinstance(p, View)]
    if axis >= len(views[0].dims) - 2 or any(v.frame is not None for v in views):
        parts = [laid_out(p, where) if isinstance(p, View) else p for p in parts]
    first = next(p for p in parts if isinstance(p, View))
    place = position_axis(first, axis)
    if place is not None:
        return _join_positions(parts, axis, place, where)
    return join_channels(parts, axis, where)


def join_channels(parts: Sequence[View | torch.Tensor], axis: int, where: Where, like: View | None = None) -> View:
    """Concatenate along dimension `axis`, which is of channels; the other dimensions are as those of `like`."""
    frame = largest([p.frame for p in parts if isinstance(p, View)])
    first = like or next(p for p in parts if isinstance(p, View) and p.frame == frame)
    views = [_joinable(p, first, axis, where) for p in parts]
    total = sum(v.node.channels[0] for v in views)
    rest = views[0].node.channels[1:]
    if any(v.node.channels[1:] != rest for v in views):
        raise UnsupportedOpError(f"{where} joins values whose other axes differ.")
    return positionwise("cat", views, (total, *rest), _joined_dims(first, axis, total), where, attrs={"axis": 0},
                        keys=first.node.keys)


def _joined_dims(view: View, axis: int, size: int) -> tuple[Dim, ...]:
    """The dims of a value whose channel axis 0 is dimension `axis` and whose others follow in order."""
    numbers = itertools.count(1)
    dims = [tuple(a._replace(axis=next(numbers)) if a.kind == "c" else a for a in dim if a.kind != "c" or a.size > 1)
            if k != axis else (Atom("c", size, 0),) for k, dim in enumerate(view.dims)]
    return tuple(dims)


def _others(view: View, axis: int) -> list[Atom]:
    """The channel axes of all dimensions but one, in order."""
    return [a for k, d in enumerate(view.dims) if k != axis for a in solid(d) if a.kind == "c"]


def _joinable(part: View | torch.Tensor, like: View, axis: int, where: Where) -> View:
    """One part with channels `(joined, *others)`."""
    if isinstance(part, torch.Tensor):
        dims = _joined_dims(like, axis, part.shape[axis])
        return constant(part, dims, 1 + len(_others(like, axis)), like.frame, like.node.keys, where)
    part = materialised(part, axis, where)
    if any(kind != "c" for kind in kinds_of(part.dims[axis])):
        raise UnsupportedOpError(f"{where} joins along the batch, keys or flattened positions, which is not "
                                 "understood.")
    return joined(part, axis, where)


def joined(view: View, axis: int, where: Where) -> View:
    """The view with dimension `axis`, of channels, as its node's channel axis 0 and the others behind it."""
    own = [a for a in view.dims[axis] if a.kind == "c"]
    rest = _others(view, axis)
    shape = (size_of(view.dims[axis]), *(a.size for a in rest))
    moved = drop_axes(view, [a.axis for a in (*own, *rest)], where, shape)
    return replace(moved, dims=_joined_dims(view, axis, shape[0]))


def _join_positions(parts: Sequence[View | torch.Tensor], axis: int, place: int, where: Where) -> View:
    views = [k for k, p in enumerate(parts) if isinstance(p, View)]
    if len(views) != 1:
        raise UnsupportedOpError(f"{where} joins several maps along rows or columns, which is not understood.")
    view = parts[views[0]]
    assert isinstance(view, View)
    for side, consts in ((0, parts[:views[0]]), (1, parts[views[0] + 1:])):
        for const in consts:
            assert isinstance(const, torch.Tensor)
            if not bool((const == const.flatten()[0]).all()):
                raise UnsupportedOpError(f"{where} joins a map with a constant that is not uniform along its rows "
                                         "or columns.")
            amounts = (const.shape[axis], 0) if side == 0 else (0, const.shape[axis])
            view = widened(view, axis, place, amounts, const.flatten()[0].to(view.node.dtype), where)
    return view
