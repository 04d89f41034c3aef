"""Attention: products of two fields are scores, and sums over keys weighted values."""

from __future__ import annotations

import math
from dataclasses import replace

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.axes import kinds_of, solid, spans_positions
from pixelsnail_infer.export.fields import Edge, Node
from pixelsnail_infer.export.lower import Flip, Lowering
from pixelsnail_infer.export.trace import Where
from pixelsnail_infer.export.views import Atom, Dim, View, drop_axes, size_of

__all__ = ["flip", "mixed", "outer", "scored", "scores", "swapped"]


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


def flip(node: Node, where: Where) -> Exception:
    """The signal that a product above `node` has its keys in its first operand."""
    stack = [node]
    while stack:
        node = stack.pop()
        if "product" in node.attrs:
            return Flip(node)
        stack += [e.source for e in node.inputs if e.source.keys]
    return UnsupportedOpError(f"{where}: queries and keys cannot be told apart.")


def scores(state: Lowering, a: View, b: View, where: Where) -> View:
    """Scores: `a [.., positions, d] @ b [.., d, positions]`."""
    number = state.products
    state.products += 1
    flipped = number in state.flipped or (a.pool is not None and b.pool is None)
    query, key = (swapped(b), swapped(a)) if flipped else (a, b)
    if not scored(query, key):
        raise UnsupportedOpError(f"{where}: a product of two values that is not attention over positions.")
    q, k, heads = _together(_headed(query, query.dims[-1], where), _headed(key, key.dims[-2], where), where)
    channels = max(q.node.channels[:-1], k.node.channels[:-1], key=math.prod)
    node = Node("key_dot", [q.edge, _key_edge(k)], q.frame, channels, q.node.dtype, where,
                k.frame, {"product": number}, q.node.pixel or k.node.pixel, q.node.condition or k.node.condition)
    positions = (Atom("y", q.frame[0]), Atom("x", q.frame[1]))  # type: ignore[index]
    keys = (Atom("Y", k.frame[0]), Atom("X", k.frame[1]))  # type: ignore[index]
    view = View(node, (*heads, positions, keys), q.frame)
    return swapped(view) if flipped else view


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
    weights, values, lead = _together((weights, lead), _headed(b, b.dims[-1], where), where, 0)
    if values.frame != a.node.keys:
        raise UnsupportedOpError(f"{where}: attention over {a.node.keys} keys meets values of {values.frame}.")
    channels = (*max(weights.node.channels, values.node.channels[:-1], key=math.prod), values.node.channels[-1])
    node = Node("key_mix", [weights.edge, _key_edge(values)], a.frame, channels,
                values.node.dtype, where, None, {}, True, a.node.condition or b.node.condition)
    return View(node, (*lead, solid(a.dims[-2]), (Atom("c", channels[-1], len(channels) - 1),)), a.frame)
