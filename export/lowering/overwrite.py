"""Values of which a part was written over: channels are put together anew, rows and columns chosen by a mask.

The part that is written over rows or columns is grown to all of them first, since the mask hides what it shows
elsewhere: so every value stays on the canvas, and what is read at one's own position is no read at an offset.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.fields import Edge, Node
from pixelsnail_infer.export.lowering import sequences
from pixelsnail_infer.export.lowering.arrangement import join_channels
from pixelsnail_infer.export.lowering.axes import kinds_of, position_axis, solid, with_axes
from pixelsnail_infer.export.lowering.cuts import narrow
from pixelsnail_infer.export.lowering.elementwise import elementwise, laid_out
from pixelsnail_infer.export.lowering.pads import pad_window
from pixelsnail_infer.export.lowering.state import Lowering
from pixelsnail_infer.export.lowering.tokens import Tokens
from pixelsnail_infer.export.lowering.views import Atom, View, size_of
from pixelsnail_infer.export.tracing.traced import BatchInt, TraceNode, Where

__all__ = ["select_scatter", "slice_scatter"]

Value = View | torch.Tensor


def slice_scatter(state: Lowering, item: TraceNode) -> Value | Tokens:
    base, part, axis, start, stop, step = (state.get(a) for a in item.args)
    if _in_sequence(base, axis) or _in_sequence(part, axis):
        return _into_sequence(base, part, axis, slice(start, stop, step), item.where)
    if any(isinstance(v, BatchInt) for v in (start, stop)) or any(
            isinstance(v, View) and any(a.kind == "b" for a in v.dims[axis]) for v in (base, part)):
        raise UnsupportedOpError(f"{item.where} writes into some of the images of a batch: they would differ by where "
                                 "they stand.")
    if step == 1 or stop - start <= 1:
        return overwrite(base, part, axis, (start, stop), state.shape, item.where)
    if isinstance(part, torch.Tensor):
        return _every(base, part, axis, slice(start, stop, step), item.where)
    if _place(base, part, axis, item.where) is not None:
        raise UnsupportedOpError(f"{item.where} writes every {step}th entry of {start}:{stop}, which is understood of "
                                 "channels, and of constants.")
    for k, place in enumerate(range(start, stop, step)):
        one = narrow(part, axis, k, 1, item.where)
        assert isinstance(one, View)  # no token was cut
        base = overwrite(base, one, axis, (place, place + 1), state.shape, item.where)
    return base


def select_scatter(state: Lowering, item: TraceNode) -> Value | Tokens:
    base, part, axis, index = (state.get(a) for a in item.args)
    if _in_sequence(base, axis):
        return _into_sequence(base, _unsqueezed(part, base, axis), axis, slice(index, index + 1, 1), item.where)
    if isinstance(base, View) and any(a.kind == "b" for a in base.dims[axis]):
        raise UnsupportedOpError(f"{item.where} writes into one image of a batch: it would differ by where it stands.")
    return overwrite(base, _unsqueezed(part, base, axis), axis, (index, index + 1), state.shape, item.where)


def _in_sequence(value: Value | Tokens, axis: int) -> bool:
    """Whether dimension `axis` is the tokens of a sequence of more or fewer tokens than pixels."""
    return isinstance(value, Tokens) and axis in (value.axis, value.axis + len(value.dims))


def _into_sequence(base: Value | Tokens, part: Value | Tokens, axis: int, cut: slice, where: Where) -> View | Tokens:
    """The first or the last tokens of a sequence written over: it is joined anew."""
    total = base.shape[axis] if isinstance(base, torch.Tensor) else size_of(base.dims[axis])
    if cut.step != 1 or (cut.start and cut.stop < total):
        raise UnsupportedOpError(f"{where} writes over tokens {cut.start}:{cut.stop}:{cut.step} of a sequence of "
                                 f"{total}, which is understood of its first ones or its last ones.")
    if not cut.start:
        if not isinstance(base, Tokens):
            raise UnsupportedOpError(f"{where} writes tokens of pixels over the first {cut.stop} of {total} tokens "
                                     "without any; only the last ones may become pixels.")
        return sequences.join([part, sequences.narrow(base, axis, cut.stop, total - cut.stop, where)], axis, where)
    if isinstance(base, View):  # which has pixels in front of the part, too
        nothing = torch.zeros([cut.start if k == axis else 1 for k in range(len(base.dims))], dtype=base.node.dtype)
        whole = sequences.join([nothing, part], axis, where)
        if not isinstance(whole, View):
            raise UnsupportedOpError(f"{where} writes tokens of pixels over {total - cut.start} of {total} tokens of a "
                                     "condition, of which there are as many as pixels, or it is not understood.")
        return elementwise("where", [_mask(base, axis, slice(cut.start, None)), whole, base], where)
    rest = base.narrow(axis, 0, cut.start) if isinstance(base, torch.Tensor) else \
        sequences.narrow(base, axis, 0, cut.start, where)
    return sequences.join([rest, part], axis, where)


def _unsqueezed(part: Value, base: Value | Tokens, axis: int) -> Value:
    """The part with the axis along which it is one entry; rows or columns, where it has only the others."""
    if isinstance(part, torch.Tensor):
        return part.unsqueeze(axis)
    dim: tuple[Atom, ...] = ()
    if part.frame is not None:
        missing = {"y", "x"} - {a.kind for d in part.dims for a in d}
        place = position_axis(base, axis) if isinstance(base, View) else None
        if place is not None and "yx"[place] in missing:
            dim = (Atom("yx"[place], 1),)
        elif not isinstance(base, View) and len(missing) == 1 and 1 in part.frame:
            dim = (Atom(missing.pop(), 1),)
    return replace(part, dims=(*part.dims[:axis], dim, *part.dims[axis:]))


def overwrite(base: Value, part: Value, axis: int, cut: tuple[int, int], canvas: tuple[int, int], where: Where
              ) -> Value:
    """`base` with the entries of dimension `axis` from `cut[0]` to `cut[1]` replaced by `part`."""
    (start, stop), total = cut, _size(base, axis)
    if stop <= start:
        return base
    if cut == (0, total):
        return part
    base, part = (laid_out(v, where) if isinstance(v, View) and axis >= len(v.dims) - 2 else v for v in (base, part))
    place = _place(base, part, axis, where)
    if place is None:
        return _joined(base, part, axis, cut, where)
    if isinstance(part, torch.Tensor):
        return _every(base, part, axis, slice(start, stop), where)
    mask = _mask(base, axis, slice(start, stop))
    if part.frame is None or kinds_of(part.dims[axis]) == ["e"]:  # the same for all of them
        part = replace(part, dims=(*part.dims[:axis], (), *part.dims[axis + 1:]))
        return elementwise("where", [mask, part, base], where, dtype=part.node.dtype)
    axes = (axis, None) if place == 0 else (None, axis)
    border = _uniform(base, axis, cut)
    if border is not None and _ends(part, place, total - stop, canvas):  # a pad: nothing of what was there is seen
        low, high = ((start, 0), (total - stop, 0)) if place == 0 else ((0, start), (0, total - stop))
        return pad_window(part, axes, low, high, border.to(part.node.dtype), where)
    return elementwise("where", [mask, _grown(part, axes, start, total, canvas, where), base], where,
                       dtype=part.node.dtype)


def _place(base: Value, part: Value, axis: int, where: Where) -> int | None:
    """0 where dimension `axis` is rows, 1 where it is columns, None where it is channels. Of keys and flattened
    positions constants may be written over: 2. What `base` says goes first: an axis of one entry may be any."""
    for view in (base, part):
        if not isinstance(view, View) or (view is base and not kinds_of(view.dims[axis])):
            continue
        place, kinds = position_axis(view, axis), set(kinds_of(view.dims[axis]))
        if place is not None and not kinds and any("yx"[place] in {a.kind for a in dim}
                                                   for k, dim in enumerate(view.dims) if k != axis):
            return None  # the one row or column stands elsewhere
        if place is not None and kinds <= set("yx"[place]):
            return place
        if kinds <= {"c"}:
            return None
        if isinstance(part, torch.Tensor) or part.frame is None or kinds == {"e"}:
            return 2
        break
    raise UnsupportedOpError(f"{where} writes into some entries of an axis that is neither channels, rows nor columns.")


def _ends(part: View, place: int, high: int, canvas: tuple[int, int]) -> bool:
    """Whether a pad by `high` behind the part, and of any number before it, says all: the part shows its node to the
    last row or column, and the node is not one of a part of the canvas, which ends before it."""
    if part.node.frame is None or part.frame is None:
        return False
    offset, size = (part.dy, part.dx)[place], part.node.frame[place]
    return offset <= 0 and (not high or (size >= canvas[place] and offset + part.frame[place] >= size))


def _mask(base: Value, axis: int, cut: slice) -> torch.Tensor:
    """Which entries of dimension `axis` are meant, for `base` to broadcast."""
    rank = len(base.dims) if isinstance(base, View) else base.ndim
    mask = torch.zeros(_size(base, axis), dtype=torch.bool)
    mask[cut] = True
    return mask.view(-1, *(1 for _ in range(rank - axis - 1)))


def _size(value: Value, axis: int) -> int:
    return size_of(value.dims[axis]) if isinstance(value, View) else value.shape[axis]


def _uniform(base: Value, axis: int, cut: tuple[int, int]) -> torch.Tensor | None:
    """The one number that `base` has outside of `cut`, if it is a constant."""
    if isinstance(base, View):
        return None
    rest = torch.cat([base.narrow(axis, 0, cut[0]), base.narrow(axis, cut[1], base.shape[axis] - cut[1])], axis)
    first = rest.flatten()[0]
    return first if bool((rest == first).all()) else None


def _joined(base: Value, part: Value, axis: int, cut: tuple[int, int], where: Where) -> Value:
    """The pieces before, the part and the pieces behind, in one concatenation."""
    (start, stop), found, place = cut, [], 0
    for piece in _pieces(base, axis):
        size = _size(piece, axis)
        cuts = (min(max(start - place, 0), size), max(min(stop - place, size), 0))
        if cuts[0] > 0:
            found.append(_cut(piece, axis, 0, cuts[0], where))
        if place <= start < place + size:
            found.append(part)
        if cuts[1] < size:
            found.append(_cut(piece, axis, max(cuts[1], 0), size, where))
        place += size
    views = [v for v in (base, part) if isinstance(v, View)]
    return join_channels(found, axis, where, next((v for v in views if v.frame is not None), views[0]))


def _cut(value: Value, axis: int, start: int, stop: int, where: Where) -> Value:
    if isinstance(value, torch.Tensor):
        return value.narrow(axis, start, stop - start)
    found = narrow(value, axis, start, stop - start, where)
    assert isinstance(found, View)  # no token was cut
    return found


def _pieces(value: Value, axis: int) -> list[Value]:
    """What a concatenation along `axis` was made of, else the value itself."""
    if not isinstance(value, View) or value.node.op != "cat" or not value.plain or value.node.keys or \
            solid(value.dims[axis]) != (Atom("c", value.node.channels[0], 0),):
        return [value]
    return [_piece(value, axis, edge) for edge in value.node.inputs]


def _piece(value: View, axis: int, edge: Edge) -> View:
    dims = tuple((Atom("c", edge.source.channels[0], 0),) if k == axis else dim for k, dim in enumerate(value.dims))
    if edge.source.frame is not None:
        return View(edge.source, dims, value.frame, edge.dy, edge.dx, edge.border)
    return View(edge.source, tuple(tuple(a for a in dim if a.kind not in "yx") for dim in dims))


SMALL = ("map", "cat", "slice", "reshape", "permute", "softmax", "reduce", "embedding", "linear")  # ops that grow


def _grown(view: View, axes: tuple[int | None, int | None], start: int, total: int, canvas: tuple[int, int],
           where: Where) -> View:
    """The view with `start` more rows or columns before and so many behind that there are `total`. What these show
    does not matter: a mask hides them."""
    if view.pool is not None or view.frame is None or view.node.frame is None:
        raise UnsupportedOpError(f"{where} writes pooled values over rows or columns, which is not understood.")
    node, size, place = view.node, view.node.frame, int(axes[0] is None)
    frame = (total, view.frame[1]) if place == 0 else (view.frame[0], total)
    dy, dx = (view.dy - start, view.dx) if place == 0 else (view.dy, view.dx - start)
    border = _or_zero(view.border, node)
    if node.op in SMALL and size[place] < min(total, canvas[place]) and max(dy, dx) <= 0 and \
            size[0] - dy <= frame[0] and size[1] - dx <= frame[1]:
        small, node = node, _whole(node, frame, (-dy, -dx), {})
        if view.outside:
            node = _hidden(node, small, border, (-dy, -dx))
        dy, dx = 0, 0
    return View(node, with_axes(view.dims, axes, frame), frame, dy, dx, border)


def _whole(node: Node, frame: tuple[int, int], low: tuple[int, int], made: dict[Node, Node]) -> Node:
    """A node of fewer positions with more of them around: its old (0, 0) is at `low`. What it reads of nodes that are
    as small as itself, it reads of those grown, hidden where they were not; elsewhere at an offset."""
    if node in made:
        return made[node]
    edges = []
    for edge in node.inputs:
        source = edge.source
        if edge.keys or source.frame is None:
            edges.append(edge)
        elif source.frame == node.frame and source.op in SMALL:
            whole = _whole(source, frame, low, made)
            if edge.border is not None:
                whole = _hidden(whole, source, edge.border, low)
            edges.append(replace(edge, source=whole, border=_or_zero(edge.border, whole)))
        else:
            edges.append(replace(edge, dy=edge.dy - low[0], dx=edge.dx - low[1], border=_or_zero(edge.border, source)))
    made[node] = replace(node, inputs=edges, frame=frame)
    return made[node]


def _hidden(node: Node, small: Node, border: torch.Tensor, low: tuple[int, int]) -> Node:
    """`node`, grown from `small`, with the border where `small` had no positions."""
    assert node.frame is not None and small.frame is not None
    ones = [1] * len(node.channels)
    inside = torch.zeros(*node.frame, *ones, dtype=torch.bool)
    inside[low[0]:low[0] + small.frame[0], low[1]:low[1] + small.frame[1]] = True
    known = replace(node, op="const", inputs=[], keys=None, pixel=False, condition=False)
    mask = replace(known, channels=tuple(ones), dtype=torch.bool, attrs={"value": inside})
    fill = replace(known, frame=None, attrs={"value": border.to(node.dtype).expand(node.channels)})
    return replace(node, op="map", inputs=[Edge(mask), Edge(node), Edge(fill)], attrs={"fn": "where", "params": {}})


def _or_zero(border: torch.Tensor | None, source: Node) -> torch.Tensor:
    return border if border is not None else torch.zeros((), dtype=source.dtype)


def _every(base: Value, part: torch.Tensor, axis: int, cut: slice, where: Where) -> Value:
    """A constant part, by a mask."""
    wide = torch.zeros(*part.shape[:axis], _size(base, axis), *part.shape[axis + 1:], dtype=part.dtype)
    wide[(slice(None),) * axis + (cut,)] = part
    return elementwise("where", [_mask(base, axis, cut), wide, base], where, dtype=part.dtype)
