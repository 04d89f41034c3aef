"""Products: convolutions and linear layers become taps; products of two fields are attention (`attention`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.fields import Edge, Node
from pixelsnail_infer.export.lattice import cell, cells, times
from pixelsnail_infer.export.lowering.attention import beyond, flip, mixed, scored, scores, swapped, with_constant
from pixelsnail_infer.export.lowering.axes import as_map, kinds_of, solid, spans_keys
from pixelsnail_infer.export.lowering.elementwise import elementwise, materialised, spread
from pixelsnail_infer.export.lowering.pads import pad_window
from pixelsnail_infer.export.lowering.positionwise import positionwise
from pixelsnail_infer.export.lowering.state import Flip, Lowering
from pixelsnail_infer.export.lowering.strides import interleaved, regridded
from pixelsnail_infer.export.lowering.views import Atom, Dim, View, drop_axes, size_of
from pixelsnail_infer.export.tracing.traced import TraceNode, Where

__all__ = ["addmm", "baddbmm", "bmm", "convolution", "mm"]


def convolution(state: Lowering, item: TraceNode) -> View:
    view, weight, bias, stride, padding, dilation, transposed, _, groups = (state.get(a) for a in item.args[:9])
    where = item.where
    if isinstance(view, torch.Tensor) or isinstance(weight, View) or isinstance(bias, View):
        raise UnsupportedOpError(f"{where}: a convolution whose weights depend on pixels or conditions.")
    if len(stride) != 2:
        raise UnsupportedOpError(f"{where}: only two-dimensional convolutions are understood here.")
    if view.frame is None:
        single = not solid(view.dims[2]) and not solid(view.dims[3])
        if single and tuple(weight.shape[2:]) == (1, 1) and not any(padding) and not transposed:
            weight = _dense(weight, groups)[:, :, 0, 0]
            return linear(merged(view, 1, where), {(0, 0): weight}, bias, None, where)
        view = spread(view, where)
    found = as_map(view, 2, 3)
    if found is None:
        raise UnsupportedOpError(f"{where}: the last two dimensions of a convolution's input are not the rows and the "
                                 "columns of a map.")
    view = merged(found, 1, where)
    padding, stride = _both(padding), _both(stride)
    if transposed:
        return transposed_convolution(view, _dense(weight, groups), bias, stride, padding,
                                      _both(dilation), _both(item.args[7]), where)
    if any(padding):
        view = pad_window(view, (2, 3), padding, padding, torch.zeros((), dtype=view.node.dtype), where)
    weight = _dense(weight, groups)
    height, width = view.frame  # type: ignore[misc]
    kh, kw = weight.shape[2:]
    frame = ((height - (kh - 1) * dilation[0] - 1) // stride[0] + 1,
             (width - (kw - 1) * dilation[1] - 1) // stride[1] + 1)
    weight = weight.permute(2, 3, 0, 1).contiguous()  # each tap in one piece: products with it read nothing else
    taps = {(a * dilation[0], b * dilation[1]): weight[a, b] for a in range(kh) for b in range(kw)}
    taps = {offset: tap for offset, tap in taps.items() if bool((tap != 0).any())}
    layer = linear(view, taps or {(0, 0): weight[0, 0] * 0}, bias, frame, where, stride)
    return _trimmed(layer, state.shape) if layer.plain and stride == (1, 1) else layer


def transposed_convolution(view: View, weight: torch.Tensor, bias: torch.Tensor | None, stride: tuple[int, int],
                           padding: tuple[int, int], dilation: tuple[int, int], extra: tuple[int, int], where: Where
                           ) -> View:
    """A transposed convolution as convolutions of its input, one for each phase of the stride, whose results take
    turns. `weight [in, out, rows, columns]`; the result has `extra` rows and columns at its end."""
    assert view.frame is not None
    sizes = [(own - 1) * step - 2 * pad + gap * (size - 1) + more + 1 for own, step, pad, gap, size, more in
             zip(view.frame, stride, padding, dilation, weight.shape[2:], extra, strict=True)]
    frame, coarse = (sizes[0], sizes[1]), (-(-sizes[0] // stride[0]), -(-sizes[1] // stride[1]))
    if min(frame) < 1:
        raise UnsupportedOpError(f"{where} gives a map without rows or columns.")
    places = [_phase_taps(*sizes) for sizes in zip(weight.shape[2:], stride, padding, dilation, strict=True)]
    spans = [[offset for taps in place for _, offset in taps] or [0] for place in places]
    low = max(0, -min(spans[0])), max(0, -min(spans[1]))
    high = (max(0, coarse[0] + max(spans[0]) - view.frame[0]), max(0, coarse[1] + max(spans[1]) - view.frame[1]))
    if stride != (1, 1):
        view = regridded(view, times(view.node.stride, stride))
    if any((*low, *high)):
        view = pad_window(view, (2, 3), low, high, torch.zeros((), dtype=view.node.dtype), where)
    kernel = weight.permute(2, 3, 1, 0).contiguous()
    phases: list[View] = []
    for rows in places[0]:
        for columns in places[1]:
            taps = {(dy + low[0], dx + low[1]): kernel[a, b] for a, dy in rows for b, dx in columns
                    if bool((kernel[a, b] != 0).any())}
            if phases and not taps:
                phases.append(_vector(bias if bias is not None else kernel.new_zeros(kernel.shape[2]), where))
                continue
            phases.append(linear(view, taps or {low: kernel[0, 0] * 0}, bias, coarse, where))
    return phases[0] if stride == (1, 1) else interleaved(phases, stride, frame, where)


def _vector(value: torch.Tensor, where: Where) -> View:
    """The same numbers at all positions, `[B, C, 1, 1]`."""
    node = Node("const", [], None, tuple(value.shape), value.dtype, where, attrs={"value": value})
    return View(node, ((Atom("b", 1),), (Atom("c", len(value), 0),), (), ()))


def _phase_taps(size: int, stride: int, padding: int, dilation: int) -> list[list[tuple[int, int]]]:
    """For each phase of a transposed kernel along one axis its taps, and at which offset each reads the input."""
    return [[(tap, (phase + padding - tap * dilation) // stride) for tap in range(size)
             if (phase + padding - tap * dilation) % stride == 0] for phase in range(stride)]


def linear(view: View, taps: dict[tuple[int, int], torch.Tensor], bias: torch.Tensor | None,
           frame: tuple[int, int] | None, where: Where, steps: tuple[int, int] = (1, 1)) -> View:
    """A linear node over the view's only channel axis, dimension 1 of `[batch, channels, rows, columns]`, at every so
    manieth position. Taps are offsets in positions of the view."""
    out = next(iter(taps.values())).shape[0]
    attrs: dict[str, Any] = {"taps": taps, "bias": bias}
    dims = _replaced(view.dims, 1, (Atom("c", out, 0),))
    if list(taps) == [(0, 0)] and frame == view.frame and steps == (1, 1):
        return positionwise("linear", [view], (out,), dims, where, attrs=attrs)
    attrs["taps"] = {times((dy + view.dy, dx + view.dx), view.node.stride): tap for (dy, dx), tap in taps.items()}
    node = Node("linear", [Edge(view.node, 0, 0, view.border if view.outside else None)], frame, (out,),
                view.node.dtype, where, None, attrs, view.node.pixel, view.node.condition,
                times(view.node.stride, steps))
    sizes = {"y": frame[0], "x": frame[1]} if frame else {}
    dims = tuple(tuple(a._replace(size=sizes.get(a.kind, a.size)) for a in d) for d in dims)
    return View(node, dims, frame)


def _trimmed(view: View, canvas: tuple[int, int]) -> View:
    """A layer whose map is larger than the canvas, without the rows and columns that see nothing but a border: they
    become one themselves, so that nothing has to be computed before the first pixel."""
    node, (edge,), taps = view.node, view.node.inputs, view.node.attrs["taps"]
    canvas = cells(canvas, node.stride)
    larger = node.frame is not None and (node.frame[0] > canvas[0] or node.frame[1] > canvas[1])
    if not larger or not node.pixel or node.frame is None or edge.source.frame is None:
        return view
    spans = []
    offsets_of = zip(*(cell(offset, node.stride) for offset in taps), strict=True)
    for size, own, offsets in zip(node.frame, edge.source.frame, offsets_of, strict=True):
        spans.append((max(0, -max(offsets)), min(size, own - min(offsets))))
    (top, bottom), (left, right) = spans
    if top >= bottom or left >= right or spans == [(0, size) for size in node.frame]:
        return view
    outside = torch.zeros((), dtype=node.dtype) if edge.border is None else edge.border.to(node.dtype)
    border = sum(tap @ outside.expand(tap.shape[1]) for tap in taps.values())
    bias = node.attrs["bias"]
    node.frame = (bottom - top, right - left)
    (sy, sx) = node.stride
    node.attrs["taps"] = {(dy + top * sy, dx + left * sx): tap for (dy, dx), tap in taps.items()}
    return replace(view, dy=-top, dx=-left, border=border if bias is None else border + bias)


def _both(padding: list[int]) -> tuple[int, int]:
    """One amount for rows and columns, or one for each."""
    return padding[0], padding[-1]


def _dense(weight: torch.Tensor, groups: int) -> torch.Tensor:
    """A grouped kernel (a transposed one is laid out likewise) as an ordinary one, zeros outside its groups."""
    if groups == 1:
        return weight
    out, per, kh, kw = weight.shape
    dense = weight.new_zeros(out, per * groups, kh, kw)
    for g in range(groups):
        rows = slice(g * out // groups, (g + 1) * out // groups)
        dense[rows, g * per:(g + 1) * per] = weight[rows]
    return dense


def merged(view: View, axis: int, where: Where) -> View:
    """The view with dimension `axis` as its node's only channel axis."""
    view = materialised(view, axis, where)
    atoms = solid(view.dims[axis])
    if any(a.kind != "c" for a in atoms):
        raise UnsupportedOpError(f"{where}: the channels of a product are not plain channels ({atoms}).")
    _refuse_scores(view, where)
    total = size_of(atoms)
    moved = drop_axes(view, [a.axis for a in atoms], where, (total,))
    return replace(moved, dims=_replaced(view.dims, axis, (Atom("c", total, 0),)))


def _refuse_scores(view: View, where: Where) -> None:
    if view.node.keys:
        raise UnsupportedOpError(f"{where} mixes attention scores or weights of several heads, or uses them outside of "
                                 "a weighted sum, which is not understood.")


def _replaced(dims: tuple[Dim, ...], axis: int, dim: Dim) -> tuple[Dim, ...]:
    axis %= len(dims)
    return (*dims[:axis], dim, *dims[axis + 1:])


def _dense_layer(view: View, weight: torch.Tensor, bias: torch.Tensor | None, where: Where) -> View:
    """`view @ weight` over the last dimension; `weight [in, out]`."""
    _refuse_scores(view, where)
    others = [a for d in view.dims[:-1] for a in d if a.kind == "c"]
    last = list(solid(view.dims[-1]))
    if any(a.kind != "c" for a in last):
        if any(a.kind in "yx" for a in last):
            raise beyond(view, f"{where} sums")
        raise UnsupportedOpError(f"{where} contracts an axis that is not channels.")
    shape = (*(a.size for a in others), size_of(tuple(last)))
    moved = drop_axes(view, [a.axis for a in (*others, *last)], where, shape)
    count = iter(range(len(others)))
    dims = [tuple(a._replace(axis=next(count)) if a.kind == "c" else a for a in d) for d in view.dims[:-1]]
    out = weight.shape[1]
    moved = replace(moved, dims=(*dims, (Atom("c", shape[-1], len(others)),)))
    attrs = {"taps": {(0, 0): weight.T}, "bias": bias}
    return positionwise("linear", [moved], (*shape[:-1], out), (*dims, (Atom("c", out, len(others)),)), where,
                        attrs=attrs)


def mm(state: Lowering, item: TraceNode) -> View:
    a, b = (state.get(v) for v in item.args[:2])
    return _product(state, a, b, item.where)


def addmm(state: Lowering, item: TraceNode) -> View:
    bias, a, b = (state.get(v) for v in item.args[:3])
    if any(item.kwargs.get(k, 1) != 1 for k in ("alpha", "beta")):
        raise UnsupportedOpError(f"{item.where} with alpha or beta is not understood.")
    if isinstance(b, torch.Tensor) and isinstance(bias, torch.Tensor) and bias.ndim == 1:
        return _dense_layer(a, b, bias, item.where)
    return elementwise("add", [_product(state, a, b, item.where), bias], item.where)


def bmm(state: Lowering, item: TraceNode) -> View:
    a, b = (state.get(v) for v in item.args[:2])
    return _product(state, a, b, item.where)


def baddbmm(state: Lowering, item: TraceNode) -> View:
    extra, a, b = (state.get(v) for v in item.args[:3])
    product = _product(state, a, b, item.where)
    alpha, beta = item.kwargs.get("alpha", 1), item.kwargs.get("beta", 1)
    if alpha != 1:
        product = elementwise("mul", [product, torch.tensor(alpha, dtype=product.node.dtype)], item.where)
    if beta == 0:
        return product
    if beta != 1:
        raise UnsupportedOpError(f"{item.where} with beta={beta} is not understood.")
    return elementwise("add", [product, extra], item.where)


def _product(state: Lowering, a: View | torch.Tensor, b: View | torch.Tensor, where: Where) -> View:
    """`a [.., i, k] @ b [.., k, j]`."""
    if isinstance(b, torch.Tensor):
        assert isinstance(a, View)
        return _by_constant(state, a, b, where)
    if isinstance(a, torch.Tensor):
        return swapped(_by_constant(state, swapped(b), a.mT, where))
    kinds = {*kinds_of(a.dims[-1]), *kinds_of(b.dims[-2])}
    if spans_keys(a, -1):
        return mixed(a, b, where)
    if spans_keys(b, -2):
        return swapped(mixed(swapped(b), swapped(a), where))
    if not kinds and not scored(a, b):  # a sum of one product
        return elementwise("mul", [a, b], where)
    if kinds <= {"c"}:
        return scores(state, a, b, where)
    if "e" in kinds:
        raise UnsupportedOpError(f"{where} sums over an axis that only repeats one value, which is not understood.")
    error = beyond(b if {"y", "x"} & {*kinds_of(b.dims[-2])} else a, f"{where} sums")
    for side in (a, b):
        found = flip(side.node, error)
        if found is not error:
            raise found
    raise error


def _by_constant(state: Lowering, view: View, tensor: torch.Tensor, where: Where) -> View:
    """`view [.., i, k] @ tensor [.., k, j]`: a layer, or attention with a constant factor."""
    first = solid(view.dims[0])
    if len(view.dims) == 2 and len(first) > 1 and first[0].kind == "b":  # [B * i, k]
        apart = _by_constant(state, replace(view, dims=(first[:1], first[1:], view.dims[1])), tensor, where)
        return replace(apart, dims=(apart.dims[0] + apart.dims[1], apart.dims[2]))
    found, attrs = with_constant(state, view, tensor, where)
    if found is not None:
        return found
    flat = tensor.reshape(-1, *tensor.shape[-2:])
    if not bool((flat == flat[:1]).all()):
        error = UnsupportedOpError(f"{where}: a product with a constant that differs from head to head.")
        raise Flip(attrs["product"], error) if attrs else error
    layer = _dense_layer(view, flat[0], None, where)
    layer.node.attrs.update(attrs)
    return layer
