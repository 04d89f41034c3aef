"""Rewrites of the normal form that later steps lean on: one-hot inputs become look-ups, added constants biases."""

from __future__ import annotations

import torch

from pixelsnail_infer.export.analysis.overwrites import flatten_overwrites
from pixelsnail_infer.export.evaluation.whole import full_value
from pixelsnail_infer.export.fields import Edge, Node, consumers, topological

__all__ = ["simplify"]


def simplify(output: Node) -> Node:
    """Rewrite in place below `output` and return it. Values do not change."""
    _fold_constants(output)
    _fold_biases(output)
    for node in topological([output]):
        if node.op == "linear":
            _look_up(node)
    for node in topological([output]):
        if node.op == "embedding" and node.pixel:  # codes outside of the canvas are no level: a row that nobody uses
            weight = node.attrs["weight"]
            node.attrs = {"weight": torch.cat([weight, torch.zeros_like(weight[:1])])}
    _share_equal(output)
    flatten_overwrites(output)
    return output


def _fold_constants(output: Node) -> None:
    """What sees neither pixels nor conditions becomes a constant."""
    for node in topological([output]):
        if node.op != "const" and not node.pixel and not node.condition:
            value = full_value(node, {e.source: full_value(e.source, {}, {}) for e in node.inputs}, {})[0]
            node.op, node.inputs, node.attrs = "const", [], {"value": value}


def _fold_biases(output: Node) -> None:
    """linear + constant vector -> a linear with that bias."""
    nodes = topological([output])
    readers = consumers(nodes)
    for node in nodes:
        if node.op != "map" or node.attrs["fn"] != "add" or len(node.inputs) != 2:
            continue
        a, b = node.inputs
        if a.source.op == "const":
            a, b = b, a
        product, bias = a.source, b.source
        if product.op != "linear" or bias.op != "const" or bias.frame or len(readers[product]) != 1:
            continue
        if (a.dy, a.dx) != (0, 0) or a.border is not None or node.channels != product.channels:
            continue
        if bias.channels not in (product.channels[-1:], (1,) * (len(product.channels) - 1) + product.channels[-1:]):
            continue
        old = product.attrs["bias"]
        value = bias.attrs["value"].reshape(-1)
        node.op, node.inputs = "linear", product.inputs
        node.attrs = {**product.attrs, "bias": value if old is None else old + value}
        node.where = product.where


def _look_up(node: Node) -> None:
    """A linear map of a one-hot or an embedding of codes becomes a sum of table rows, one table per tap."""
    edge = node.inputs[0]
    found = _table(edge.source)
    if found is None:
        return
    codes, table = found
    border = edge.border if edge.border is not None else torch.zeros((), dtype=table.dtype)
    rows = torch.cat([table, border.to(table.dtype).expand(1, table.shape[1])])  # [levels + 1, in]
    node.attrs["taps"] = {offset: rows @ tap.T.to(rows.dtype) for offset, tap in node.attrs["taps"].items()}
    outside = torch.tensor(table.shape[0], dtype=codes.dtype)
    node.inputs = [Edge(codes, edge.dy, edge.dx, outside if edge.border is not None else None)]
    node.op = "lookup"


def _table(node: Node) -> tuple[Node, torch.Tensor] | None:
    """The codes that `node` is a table of, and the table `[levels, channels]`."""
    while (node.op == "map" and node.attrs["fn"] == "cast" or node.op == "reshape" and node.channels == (1,)) and \
            _same_place(node.inputs[0]):
        node = node.inputs[0].source
    if node.op == "embedding":
        return (_codes(node.inputs[0].source), node.attrs["weight"]) if _same_place(node.inputs[0]) else None
    if len(node.channels) > 1:
        return None
    if node.op == "cat":
        return _tables_joined(node)
    if node.op == "map" and node.attrs["fn"] == "where":
        return _chosen(node)
    if node.op != "map" or node.attrs["fn"] != "eq":
        return None
    a, b = node.inputs
    if a.source.op == "const":
        a, b = b, a
    if b.source.op != "const" or b.source.frame or b.source.channels != node.channels or not _same_place(a):
        return None
    codes, values = _codes(a.source), b.source.attrs["value"].reshape(-1)
    levels = codes.attrs.get("levels")
    if codes.op != "input" or levels is None:
        return None
    return codes, (torch.arange(levels)[:, None] == values[None]).to(torch.float64)


def _tables_joined(node: Node) -> tuple[Node, torch.Tensor] | None:
    """Channels that are tables of the same codes, side by side, as of a one-hot that is filled level by level."""
    found = [_table(edge.source) if _same_place(edge) else None for edge in node.inputs]
    tables = [table for table in found if table is not None]
    if len(tables) != len(found) or any(codes is not tables[0][0] for codes, _ in tables):
        return None
    return tables[0][0], torch.cat([table for _, table in tables], 1)


def _chosen(node: Node) -> tuple[Node, torch.Tensor] | None:
    """One of two vectors where a table of truths says so, as of a one-hot that is scattered into zeros."""
    mask, yes, no = node.inputs
    found, (a, b) = _table(mask.source) if _same_place(mask) else None, (_vector(e.source) for e in (yes, no))
    if found is None or a is None or b is None:
        return None
    table = torch.where(found[1].bool(), a, b)
    return found[0], table.to(torch.float64).expand(-1, *node.channels)


def _vector(node: Node) -> torch.Tensor | None:
    """The value of a constant that is the same at all positions."""
    if node.op != "const" or node.keys:
        return None
    value: torch.Tensor = node.attrs["value"]
    first = value[0, 0] if node.frame else value
    return first if bool((value == first).all()) else None


def _codes(node: Node) -> Node:
    while node.op == "reshape" and not node.dtype.is_floating_point:
        node = node.inputs[0].source
    return node


def _same_place(edge: Edge) -> bool:
    return edge.dy == 0 and edge.dx == 0 and edge.border is None


def _share_equal(output: Node) -> None:
    """Equal nodes become one: constants by value, others by operation and operands."""
    known: dict[tuple[object, ...], list[Node]] = {}
    instead: dict[Node, Node] = {}
    for node in topological([output]):
        for edge in node.inputs:
            edge.source = instead.get(edge.source, edge.source)
        key = (node.op, node.frame, node.stride, node.channels, node.keys, node.dtype,
               *((e.source, e.dy, e.dx, e.keys, e.pool) for e in node.inputs))
        for other in known.setdefault(key, []):
            if node.op != "input" and _same_attributes(node, other) and all(
                    _same_value(a.border, b.border) for a, b in zip(node.inputs, other.inputs, strict=True)):
                instead[node] = other
                break
        else:
            known[key].append(node)


def _same_attributes(a: Node, b: Node) -> bool:
    return a.attrs.keys() == b.attrs.keys() and all(_same_value(a.attrs[k], b.attrs[k]) for k in a.attrs)


def _same_value(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a is b or (a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same_value(a[k], b[k]) for k in a)
    return type(a) is type(b) and a == b
