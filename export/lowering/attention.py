"""Attention: products of two fields are scores, and sums over keys weighted values."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

import torch

from pixelsnail_infer.errors import ModelError, NotCausalError, UnsupportedOpError
from pixelsnail_infer.export.fields import Edge, Node
from pixelsnail_infer.export.lowering.axes import kinds_of, solid, spans_keys, spans_positions
from pixelsnail_infer.export.lowering.elementwise import constant
from pixelsnail_infer.export.lowering.state import Flip, Lowering
from pixelsnail_infer.export.lowering.strides import regridded
from pixelsnail_infer.export.lowering.views import Atom, Dim, View, drop_axes, size_of
from pixelsnail_infer.export.tracing.traced import Where

__all__ = ["beyond", "flip", "mixed", "outer", "scored", "scores", "swapped", "with_constant"]


def scored(a: View, b: View) -> bool:
    """Whether both factors of `a [.., i, k] @ b [.., k, j]` bring positions of their own."""
    return a.node.keys is None and b.node.keys is None and spans_positions(a, -2) and spans_positions(b, -1)


def swapped(view: View) -> View:
    """The view with its last two dimensions exchanged."""
    return replace(view, dims=(*view.dims[:-2], view.dims[-1], view.dims[-2]))


def outer(state: Lowering, a: View, b: View, where: Where) -> View | None:
    """Scores of queries and keys of width 1, whose product is an elementwise one: every position of one factor times
    every position of the other. None where the factors are not so."""
    rank = max(len(a.dims), len(b.dims))
    a, b = (replace(v, dims=((),) * (rank - len(v.dims)) + v.dims) for v in (a, b))
    own, others = ([k for k in range(rank) if spans_positions(u, k) and solid(u.dims[k]) and not solid(v.dims[k])]
                   for u, v in ((a, b), (b, a)))
    if not own or not others or a.node.keys or b.node.keys:
        return None
    order = [*(k for k in range(rank) if k not in (own[0], others[0])), own[0], others[0]]
    a, b = (replace(v, dims=tuple(v.dims[k] for k in order)) for v in (a, b))
    product = scores(state, a, b, where)
    return replace(product, dims=tuple(product.dims[order.index(k)] for k in range(rank)))


def flip(node: Node, error: ModelError) -> Exception:
    """The signal that the nearest product above `node` is to be read in another way; `error` where there is none."""
    queue, seen = deque([node]), {node}
    while queue:
        node = queue.popleft()
        if "product" in node.attrs:
            return Flip(node.attrs["product"], error)
        above = [e.source for e in node.inputs if not e.keys and e.source not in seen]
        seen.update(above)
        queue += above
    return error


def beyond(view: View, what: str) -> ModelError:
    """Why an operation over all positions is refused: unless a table over pairs of positions came in before, which may
    have hidden the later ones, it is a leak."""
    if not view.node.pixel:
        return UnsupportedOpError(f"{what} over all positions of a condition's map, which is not understood.")
    if view.node.keys:
        return UnsupportedOpError(f"{what} over the queries of attention, not over its keys.")
    queue, seen = [view.node], {view.node}
    places = math.prod(view.node.frame or (1,))
    while queue:
        node = queue.pop()
        if node.op == "const" and node.frame and places in node.channels:
            return UnsupportedOpError(f"{what} over all positions of the canvas after a table of all pairs of them; "
                                      "that is understood of attention (scores, weights, values) only.")
        above = [e.source for e in node.inputs if not e.keys and e.source not in seen]
        seen.update(above)
        queue += above
    return NotCausalError(f"{what} over all positions of the canvas, later pixels included.")


def scores(state: Lowering, a: View, b: View, where: Where) -> View:
    """Scores: `a [.., positions, d] @ b [.., d, positions]`."""
    one_way = a.pool is not None or b.pool is not None
    reading, attrs = state.product(1 if one_way else 2)
    flipped = a.pool is not None if one_way else reading == 1
    return swapped(_scores(swapped(b), swapped(a), attrs, where)) if flipped else _scores(a, b, attrs, where)


def _scores(query: View, key: View, attrs: dict[str, int], where: Where) -> View:
    if not scored(query, key):
        raise UnsupportedOpError(f"{where}: a product of two values that is not attention over positions.")
    query, key = _on_pixels(query, where), _on_pixels(key, where)
    q, k, heads = _together(_headed(query, query.dims[-1], where), _headed(key, key.dims[-2], where), where)
    channels = max(q.node.channels[:-1], k.node.channels[:-1], key=math.prod)
    node = Node("key_dot", [q.edge, _key_edge(k)], q.frame, channels, q.node.dtype, where,
                k.frame, attrs, q.node.pixel or k.node.pixel, q.node.condition or k.node.condition)
    positions = (Atom("y", q.frame[0]), Atom("x", q.frame[1]))  # type: ignore[index]
    keys = (Atom("Y", k.frame[0]), Atom("X", k.frame[1]))  # type: ignore[index]
    return View(node, (*heads, positions, keys), q.frame)


def _on_pixels(view: View, where: Where) -> View:
    """The view of a factor of attention, which has a position for each pixel of its canvas."""
    if view.node.pixel and view.node.stride != (1, 1):
        raise UnsupportedOpError(f"{where} attends to positions that are {view.node.stride} pixels apart; attention on "
                                 "a coarser lattice than the pixels' is not understood.")
    return regridded(view, (1, 1))


def with_constant(state: Lowering, view: View, tensor: torch.Tensor, where: Where
                  ) -> tuple[View | None, dict[str, int]]:
    """`view [.., i, k] @ tensor [.., k, j]` where the constant stands for positions of the canvas: weights of every
    query and key, or (in another reading than a layer's weights) keys or queries. Also gives the attribute by which a
    product that is read as a layer can be read so."""
    if view.node.keys == state.shape and spans_keys(view, -1):
        last = (Atom("c", tensor.shape[-1], 10_000),)
        return mixed(view, _positional(tensor, view, last, state.shape, None, where), where), {}
    height, width = state.shape
    many = tensor.shape[-1] == height * width > 1
    if many and view.node.keys is None and spans_positions(view, -1):
        keys = (Atom("Y", view.frame[0]), Atom("X", view.frame[1]))  # type: ignore[index]
        weights = _positional(tensor.mT, view, keys, state.shape, view.frame, where)
        return swapped(mixed(weights, swapped(view), where)), {}
    if not many or view.node.keys or not spans_positions(view, -2):
        return None, {}
    reading, attrs = state.product(2 if view.pool else 3)
    if reading == 0:
        return None, attrs
    other = _positional(tensor.mT, view, (Atom("c", tensor.shape[-2], 10_000),), state.shape, None, where)
    if reading == 1 and not view.pool:
        return _scores(view, swapped(other), attrs, where), {}
    return swapped(_scores(other, swapped(view), attrs, where)), {}


def _positional(tensor: torch.Tensor, like: View, last: Dim, shape: tuple[int, int], keys: tuple[int, int] | None,
                where: Where) -> View:
    """A constant `[*heads, P, n]` as a view whose dimension -2 is the canvas's positions, the first as `like`'s."""
    tensor = tensor.reshape((1,) * (len(like.dims) - tensor.ndim) + tuple(tensor.shape))
    order = iter(range(len(like.dims)))
    heads = tuple((*(a for a in dim if a.kind == "b"), *((Atom("c", size, next(order)),) if size > 1 else ()))
                  for size, dim in zip(tensor.shape[:-2], like.dims[:-2], strict=True))
    width = () if keys else (last[0]._replace(axis=next(order)),)
    rank = next(order)
    dims = (*heads, (Atom("y", shape[0]), Atom("x", shape[1])), width or last)
    view = constant(tensor, dims, rank, shape, keys, where)
    value, node = view.node.attrs["value"], view.node
    if keys and not node.keys:  # the same for all keys
        value = value[..., None].expand(*value.shape, math.prod(keys))
    if node.frame is None:  # the same at all positions
        value = value.expand(*shape, *value.shape)
    return View(Node("const", [], shape, node.channels, node.dtype, where, keys, {"value": value}), view.dims, shape)


def _key_edge(view: View) -> Edge:
    """An edge that reads all positions."""
    if view.pool is not None:
        return Edge(view.node, keys=True, pool=view.pool)
    if view.plain:
        return Edge(view.node, keys=True)
    node = view.node
    return Edge(Node("map", [view.edge], view.frame, node.channels, node.dtype, node.where, None, {"fn": "identity"},
                     node.pixel, node.condition, node.stride), keys=True)


def _headed(view: View, width: Dim, where: Where) -> tuple[View, tuple[Dim, ...]]:
    """The view with channels `(*heads, d)`; the leading dims, renumbered."""
    lead = tuple(solid(d) for d in view.dims[:-2])
    heads = [a for d in lead for a in d if a.kind == "c"]
    inner = [a for a in solid(width) if a.kind == "c"]
    shape = (*(a.size for a in heads), size_of(tuple(inner)))
    moved = drop_axes(view, [a.axis for a in (*heads, *inner)], where, shape)
    count = iter(range(len(heads)))
    dims = tuple(tuple(a._replace(axis=next(count)) if a.kind == "c" else a for a in d) for d in lead)
    return moved, dims


def _together(a: tuple[View, tuple[Dim, ...]], b: tuple[View, tuple[Dim, ...]], where: Where, inner: int = 1
              ) -> tuple[View, View, tuple[Dim, ...]]:
    """Two factors of `inner` (the first one) and one axis behind their heads. One may have a single head for all of the
    other's: then the first factor gets axes of size 1, the second none."""
    (u, lead), (v, other) = a, b
    mine, theirs = u.node.channels[:len(u.node.channels) - inner], v.node.channels[:-1]
    if mine == theirs or not theirs:
        return u, v, lead
    if mine:
        raise UnsupportedOpError(f"{where}: attention heads {mine} meet heads {theirs}.")
    return drop_axes(u, list(range(inner)), where, (*(1 for _ in theirs), *u.node.channels)), v, other


def mixed(a: View, b: View, where: Where) -> View:
    """Weighted sums: `a [.., positions, keys] @ b [.., positions, d]`, b's positions being the keys."""
    if not spans_positions(b, -2):
        if {"Y", "X"} & set(kinds_of(b.dims[-2])):
            raise UnsupportedOpError(f"{where}: a product of two attention maps is not understood.")
        raise UnsupportedOpError(f"{where}: attention weights meet a value that has no positions.")
    heads = [x for d in a.dims[:-2] for x in solid(d) if x.kind == "c"]
    weights = drop_axes(a, [x.axis for x in heads], where, tuple(x.size for x in heads))
    lead = tuple(tuple(x._replace(axis=heads.index(x)) if x.kind == "c" else x for x in solid(d)) for d in a.dims[:-2])
    b = _on_pixels(b, where)
    weights, values, lead = _together((weights, lead), _headed(b, b.dims[-1], where), where, 0)
    if values.frame != a.node.keys:
        raise UnsupportedOpError(f"{where}: attention over {a.node.keys} keys meets values of {values.frame}.")
    channels = (*max(weights.node.channels, values.node.channels[:-1], key=math.prod), values.node.channels[-1])
    node = Node("key_mix", [weights.edge, _key_edge(values)], a.frame, channels,
                values.node.dtype, where, None, {}, a.node.pixel or b.node.pixel, a.node.condition or b.node.condition)
    return View(node, (*lead, solid(a.dims[-2]), (Atom("c", channels[-1], len(channels) - 1),)), a.frame)
