"""Borders that differ from channel to channel: a canvas holds one number outside, so values are kept less their border.

What reads such a value elsewhere than at its own position reads `value - border` instead, which is 0 outside, and adds
the border again: a layer to its bias, a shift behind itself. That is where networks end which pad once and then apply
several layers: outside, a layer with a bias gives another number in every channel.
"""

from __future__ import annotations

import torch

from pixelsnail_infer.export.analysis.stages import Program, Stage
from pixelsnail_infer.export.fields import TAPPED, Edge, Node, consumers, reads

__all__ = ["centre_borders"]


def centre_borders(program: Program) -> None:
    """Rewrite `program` in place so that the border of every value that is kept on a canvas is one number."""
    readers = consumers(program.order)
    for node in list(program.order):
        elsewhere = [(reader, edge) for reader, edge in readers[node] if reader.op in TAPPED and not edge.keys
                     and any(offset != (0, 0) for offset in reads(reader, edge))]
        border = program.border.get(node)
        if border is None or not elsewhere or len(node.channels) != 1 or _uniform(border):
            continue
        fill = _added(program, Node("const", [], None, node.channels, node.dtype, node.where,
                                    attrs={"value": border.to(node.dtype).expand(node.channels)}), node)
        program.stage[fill], program.latest[fill] = Stage.CONSTANT, None
        centred = _added(program, _sum("sub", node, [node, fill]), node)
        program.border[centred] = torch.zeros((), dtype=node.dtype)
        if node not in program.guard and any(reader.op == "merge" for reader, _ in readers[node]):
            del program.border[node]  # what merges read of it is never outside
        for reader, edge in elsewhere:
            edge.source = centred
            if reader.op == "linear":
                extra = sum(tap @ fill.attrs["value"] for tap in reader.attrs["taps"].values())
                bias = reader.attrs["bias"]
                reader.attrs = {**reader.attrs, "bias": extra if bias is None else bias + extra}
                continue
            moved = _added(program, Node("shift", reader.inputs, reader.frame, reader.channels, reader.dtype,
                                         reader.where, None, {}, True, reader.condition, reader.stride), reader)
            reader.op, reader.inputs, reader.attrs = "map", [Edge(moved), Edge(fill)], {"fn": "add", "params": {}}
    program.refresh()


def _uniform(border: torch.Tensor) -> bool:
    flat = border.reshape(-1)
    return bool((flat == flat[0]).all())


def _sum(fn: str, like: Node, parts: list[Node]) -> Node:
    return Node("map", [Edge(part) for part in parts], like.frame, like.channels, like.dtype, like.where, None,
                {"fn": fn, "params": {}}, True, like.condition, like.stride)


def _added(program: Program, node: Node, like: Node) -> Node:
    """`node` as known when `like` is."""
    program.stage[node], program.latest[node] = program.stage[like], program.latest[like]
    return node
