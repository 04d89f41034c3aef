"""Products: convolutions and linear layers become taps; products of two fields are attention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from pixelsnail_infer.errors import NotCausalError, UnsupportedOpError
from pixelsnail_infer.export.fields import Edge, Node
from pixelsnail_infer.export.lower import Flip, Lowering, positionwise
from pixelsnail_infer.export.lower_elementwise import elementwise, spread
from pixelsnail_infer.export.lower_windows import pad_window, position_axis
from pixelsnail_infer.export.trace import TraceNode, Where
from pixelsnail_infer.export.views import Atom, Dim, View, drop_axes, size_of

__all__ = ["addmm", "baddbmm", "bmm", "convolution", "flip", "mm"]


def convolution(state: Lowering, item: TraceNode) -> View:
    view, weight, bias, stride, padding, dilation, transposed, _, groups = (state.get(a) for a in item.args[:9])
    where = item.where
    if isinstance(view, torch.Tensor) or isinstance(weight, View) or isinstance(bias, View):
        raise UnsupportedOpError(f"{where}: a convolution whose weights depend on pixels or conditions.")
    if transposed or len(stride) != 2 or any(s != 1 for s in stride):
        raise UnsupportedOpError(f"{where}: only plain two-dimensional convolutions of stride 1 are understood here.")
    if position_axis(view.dims[2]) != 0 or position_axis(view.dims[3]) != 1:
        if not view.dims[2] and not view.dims[3] and tuple(weight.shape[2:]) == (1, 1) and not any(padding):
            weight = _dense(weight, groups)[:, :, 0, 0]
            return linear(merged(view, 1, where), {(0, 0): weight}, bias, None, where)
        view = spread(view, where)
    view = merged(view, 1, where)
    padding = _both(padding)
    if any(padding):
        view = pad_window(view, padding, padding, torch.zeros((), dtype=view.node.dtype), where)
    weight = _dense(weight, groups)
    height, width = view.frame  # type: ignore[misc]
    kh, kw = weight.shape[2:]
    frame = (height - (kh - 1) * dilation[0], width - (kw - 1) * dilation[1])
    taps = {(a * dilation[0], b * dilation[1]): weight[:, :, a, b] for a in range(kh) for b in range(kw)}
    taps = {offset: tap for offset, tap in taps.items() if bool((tap != 0).any())}
    return linear(view, taps or {(0, 0): weight[:, :, 0, 0] * 0}, bias, frame, where)


def linear(view: View, taps: dict[tuple[int, int], torch.Tensor], bias: torch.Tensor | None,
           frame: tuple[int, int] | None, where: Where) -> View:
    """A linear node over the view's only channel axis, dimension 1 of `[batch, channels, rows, columns]`."""
    out = next(iter(taps.values())).shape[0]
    attrs: dict[str, Any] = {"taps": taps, "bias": bias}
    dims = _replaced(view.dims, 1, (Atom("c", out, 0),))
    if list(taps) == [(0, 0)] and frame == view.frame:
        return positionwise("linear", [view], (out,), dims, where, attrs=attrs)
    attrs["taps"] = {(dy + view.dy, dx + view.dx): tap for (dy, dx), tap in taps.items()}
    node = Node("linear", [Edge(view.node, 0, 0, view.border if view.outside else None)], frame, (out,),
                view.node.dtype, where, None, attrs, view.node.pixel, view.node.condition)
    sizes = {"y": frame[0], "x": frame[1]} if frame else {}
    dims = tuple(tuple(a._replace(size=sizes.get(a.kind, a.size)) for a in d) for d in dims)
    return View(node, dims, frame)


def _both(padding: list[int]) -> tuple[int, int]:
    """One amount for rows and columns, or one for each."""
    return padding[0], padding[-1]


def _dense(weight: torch.Tensor, groups: int) -> torch.Tensor:
    """A grouped kernel as an ordinary one, zeros outside its groups."""
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
    atoms = view.dims[axis]
    if any(a.kind != "c" for a in atoms):
        raise UnsupportedOpError(f"{where}: the channels of a product are not plain channels ({atoms}).")
    total = size_of(atoms)
    moved = drop_axes(view, [a.axis for a in atoms], where, (total,))
    return replace(moved, dims=_replaced(view.dims, axis, (Atom("c", total, 0),)))


def _replaced(dims: tuple[Dim, ...], axis: int, dim: Dim) -> tuple[Dim, ...]:
    axis %= len(dims)
    return (*dims[:axis], dim, *dims[axis + 1:])


def _dense_layer(view: View, weight: torch.Tensor, bias: torch.Tensor | None, where: Where) -> View:
    """`view @ weight` over the last dimension; `weight [in, out]`."""
    others = [a for d in view.dims[:-1] for a in d if a.kind == "c"]
    last = list(view.dims[-1])
    if any(a.kind != "c" for a in last):
        if any(a.kind in "yx" for a in last) and view.node.pixel:
            raise NotCausalError(f"{where} sums over all positions of the canvas, later pixels included.")
        raise UnsupportedOpError(f"{where} contracts an axis that is not channels.")
    shape = (*(a.size for a in others), size_of(view.dims[-1]))
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
        return _dense_layer(a, _single(b, where), None, where)
    if isinstance(a, torch.Tensor):
        swapped = _dense_layer(_swap(b), _single(a, where).T, None, where)
        return _swap(swapped)
    kinds = {x.kind for x in a.dims[-1] if x.size > 1} | {x.kind for x in b.dims[-2] if x.size > 1}
    if kinds <= {"c"}:
        return _keys_product(state, a, b, where)
    if any(x.kind in "YX" for x in a.dims[-1]):
        return _mix(a, b, where)
    if any(x.kind in "YX" for x in b.dims[-2]):
        return _swap(_mix(_swap(b), _swap(a), where))
    for side in (a, b):
        if side.node.keys:
            raise flip(side.node, where)
    raise NotCausalError(f"{where} sums over all positions of the canvas, later pixels included.")


def flip(node: Node, where: Where) -> Exception:
    """The signal that a product above `node` has its keys in its first operand."""
    stack = [node]
    while stack:
        node = stack.pop()
        if "product" in node.attrs:
            return Flip(node)
        stack += [e.source for e in node.inputs if e.source.keys]
    return UnsupportedOpError(f"{where}: queries and keys cannot be told apart.")


def _single(tensor: torch.Tensor, where: Where) -> torch.Tensor:
    if tensor.ndim == 2:
        return tensor
    flat = tensor.reshape(-1, *tensor.shape[-2:])
    if not bool((flat == flat[:1]).all()):
        raise UnsupportedOpError(f"{where}: a product with a constant that differs along the batch.")
    return flat[0]


def _swap(view: View) -> View:
    return replace(view, dims=(*view.dims[:-2], view.dims[-1], view.dims[-2]))


def _keys_product(state: Lowering, a: View, b: View, where: Where) -> View:
    """Scores: `a [.., positions, d] @ b [.., d, positions]`."""
    number = state.products
    state.products += 1
    query, key = (_swap(b), _swap(a)) if number in state.flipped else (a, b)
    for dim in (query.dims[-2], key.dims[-1]):
        if [x.kind for x in dim if x.kind != "e"] != ["y", "x"]:
            raise UnsupportedOpError(f"{where}: a product of two values that is not attention over positions.")
    q, heads = _headed(query, query.dims[-1], where)
    k, _ = _headed(key, key.dims[-2], where)
    node = Node("key_dot", [q.edge, _key_edge(k)], q.frame, q.node.channels[:-1], q.node.dtype, where,
                k.frame, {"product": number}, q.node.pixel or k.node.pixel, q.node.condition or k.node.condition)
    keys = (Atom("Y", k.frame[0]), Atom("X", k.frame[1]))  # type: ignore[index]
    view = View(node, (*heads, query.dims[-2], keys), q.frame)
    return _swap(view) if number in state.flipped else view


def _key_edge(view: View) -> Edge:
    """An edge that reads all positions."""
    if view.pool is not None:
        return Edge(view.node, keys=True, pool=view.pool)
    if view.plain:
        return Edge(view.node, keys=True)
    node = view.node
    return Edge(Node("map", [view.edge], view.frame, node.channels, node.dtype, node.where, None, {"fn": "identity"},
                     node.pixel, node.condition), keys=True)


def _headed(view: View, width: Dim, where: Where) -> tuple[View, tuple[Dim, ...]]:
    """The view with channels `(*heads, d)`; the leading dims, renumbered."""
    lead = view.dims[:-2]
    heads = [a for d in lead for a in d if a.kind == "c"]
    inner = [a for a in width if a.kind == "c"]
    shape = (*(a.size for a in heads), size_of(tuple(inner)))
    moved = drop_axes(view, [a.axis for a in (*heads, *inner)], where, shape)
    count = iter(range(len(heads)))
    dims = tuple(tuple(a._replace(axis=next(count)) if a.kind == "c" else a for a in d) for d in lead)
    return moved, dims


def _mix(a: View, b: View, where: Where) -> View:
    """Weighted sums: `a [.., positions, keys] @ b [.., positions, d]`, b's positions being the keys."""
    if [x.kind for x in b.dims[-2] if x.kind != "e"] != ["y", "x"]:
        if {"Y", "X"} & {x.kind for x in b.dims[-2]}:
            raise UnsupportedOpError(f"{where}: a product of two attention maps is not understood.")
        raise UnsupportedOpError(f"{where}: attention weights meet a value that has no positions.")
    heads = [x for d in a.dims[:-2] for x in d if x.kind == "c"]
    weights = drop_axes(a, [x.axis for x in heads], where, tuple(x.size for x in heads))
    values, lead = _headed(b, b.dims[-1], where)
    if values.node.channels[:-1] != weights.node.channels:
        raise UnsupportedOpError(f"{where}: attention weights of heads {weights.node.channels} meet values of heads "
                                 f"{values.node.channels[:-1]}.")
    if values.frame != a.node.keys:
        raise UnsupportedOpError(f"{where}: attention over {a.node.keys} keys meets values of {values.frame}.")
    width = values.node.channels[-1]
    node = Node("key_mix", [weights.edge, _key_edge(values)], a.frame, values.node.channels,
                values.node.dtype, where, None, {}, True, a.node.condition or b.node.condition)
    return View(node, (*lead, a.dims[-2], (Atom("c", width, len(heads)),)), a.frame)
