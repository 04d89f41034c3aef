"""Attention with less to do for every key: what is the same for all keys of a query is done once for it.

Scores and weights are as many as keys; a query and what is mixed for it are few numbers.
"""

from __future__ import annotations

import torch

from pixelsnail_infer.export.analysis.stages import Program
from pixelsnail_infer.export.fields import Edge, Node, consumers

__all__ = ["lighten_scores"]

Readers = dict[Node, list[tuple[Node, Edge]]]


def lighten_scores(program: Program) -> None:
    """Rewrite `program` in place: (q k) c becomes (c q) k, and (s a) v becomes s (a v), for numbers c and factors s in
    which the keys have no part. Values change by rounding alone."""
    readers = consumers(program.order)
    for node in program.order:
        if node.op == "map" and node.attrs["fn"] in ("mul", "div"):
            _scale_query(program, node, readers)
        elif node.op == "key_mix":
            _scale_mixed(program, node, readers)
    program.refresh()


def _scale_query(program: Program, node: Node, readers: Readers) -> None:
    first, second = (edge.source for edge in node.inputs)
    if first.op == "const" and node.attrs["fn"] == "mul":
        first, second = second, first
    value = second.attrs["value"] if second.op == "const" and second.frame is None and second.keys is None else None
    if first.op != "key_dot" or len(readers[first]) != 1 or value is None or node.channels != first.channels:
        return
    query = first.inputs[0].source
    if value.numel() != 1 or {first, node} & program.guard.keys() or not query.pixel or query is program.pixel:
        return
    number = float(value)
    scaled = _scaled(program, query, 1 / number if node.attrs["fn"] == "div" else number, readers)
    first.inputs = [Edge(scaled), *first.inputs[1:]]
    _replace(program, node, first, readers)


def _scaled(program: Program, query: Node, factor: float, readers: Readers) -> Node:
    """The query times a factor, which goes into its weights where it is a product of its own."""
    product = query  # what yields its border somewhere, as it is, is no place to reach through
    while product.op in ("reshape", "permute") and len(readers[product]) == 1 and product not in program.guard:
        product = product.inputs[0].source
    if product.op == "linear" and len(readers[product]) == 1 and product not in program.guard:
        taps, bias = product.attrs["taps"], product.attrs["bias"]
        product.attrs = {**product.attrs, "taps": {offset: tap * factor for offset, tap in taps.items()},
                         "bias": None if bias is None else bias * factor}
        return query
    number = Node("const", [], None, (1,), query.dtype, query.where, None,
                  {"value": torch.tensor([factor], dtype=query.dtype)})
    program.add(number, None)
    return _map(program, "mul", query, number)


def _scale_mixed(program: Program, node: Node, readers: Readers) -> None:
    weights = node.inputs[0].source
    if weights.op != "map" or weights.attrs["fn"] != "mul" or len(readers[weights]) != 1 or len(weights.inputs) != 2:
        return
    sources = [edge.source for edge in weights.inputs]
    keyed = [one for one in sources if one.keys is not None]
    if len(keyed) != 1 or keyed[0].channels != weights.channels or {node, weights} & program.guard.keys():
        return
    (factor,) = (one for one in sources if one is not keyed[0])
    if factor.frame != node.frame or not factor.dtype.is_floating_point or len(factor.channels) > len(weights.channels):
        return
    lifted = Node("reshape", [Edge(factor)], factor.frame, (*factor.channels, 1), factor.dtype, factor.where, None, {},
                  factor.pixel, factor.condition)
    if factor.op == "const":
        lifted = Node("const", [], factor.frame, lifted.channels, factor.dtype, factor.where, None,
                      {"value": factor.attrs["value"][..., None]})
    program.latest[lifted], program.stage[lifted] = program.latest[factor], program.stage[factor]
    node.inputs = [Edge(keyed[0]), *node.inputs[1:]]
    after = _map(program, "mul", node, lifted)
    _replace(program, node, after, readers)


def _map(program: Program, fn: str, value: Node, factor: Node) -> Node:
    node = Node("map", [Edge(value), Edge(factor)], value.frame, value.channels, value.dtype, value.where, None,
                {"fn": fn, "params": {}}, True, value.condition or factor.condition)
    seen = [one for one in (program.latest[value], program.latest[factor]) if one is not None]
    program.latest[node] = max(seen) if seen else None
    program.stage[node] = max(program.stage[value], program.stage[factor])
    return node


def _replace(program: Program, node: Node, other: Node, readers: Readers) -> None:
    """Let all that read `node` read `other`."""
    readers.setdefault(other, [])
    for reader, edge in readers[node]:
        if reader is not other:
            edge.source = other
            readers[other].append((reader, edge))
