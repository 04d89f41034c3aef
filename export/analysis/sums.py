"""Sums that mix row-stage and step values are regrouped, so that the row graph adds up all that it can.

A gated block adds a convolution's row part, its step part and a condition's map; two of the three are known per row.
"""

from __future__ import annotations

from pixelsnail_infer.export.analysis.stages import Program, Stage
from pixelsnail_infer.export.fields import Edge, Node, consumers

__all__ = ["regroup_sums"]


def regroup_sums(program: Program) -> None:
    """Rewrite `program` in place: every sum of the step gets at most one row-stage operand."""
    readers = consumers(program.order)
    inner: set[Node] = set()
    for node in reversed(program.order):
        if node in inner or not _is_sum(program, node):
            continue
        leaves = _leaves(program, node, readers, inner)
        early = [leaf for leaf in leaves if program.stage[leaf] <= Stage.ROW]
        late = [leaf for leaf in leaves if program.stage[leaf] > Stage.ROW]
        early.sort(key=lambda leaf: leaf.frame is None)  # a partial sum of vectors alone would have no positions
        if len(early) < 2 or not late or early[0].frame is None:
            continue
        total = _add(program, node, early, True)
        node.inputs = [Edge(total), Edge(_add(program, node, late, False) if len(late) > 1 else late[0])]
    program.refresh()


def _is_sum(program: Program, node: Node) -> bool:
    plain = node.op == "map" and node.attrs["fn"] == "add" and len(node.inputs) == 2 and node.keys is None
    return plain and program.stage[node] > Stage.ROW and all(e.source.dtype.is_floating_point for e in node.inputs)


def _leaves(program: Program, node: Node, readers: dict[Node, list[tuple[Node, Edge]]], inner: set[Node]) -> list[Node]:
    """The operands of the largest sum below `node` whose partial sums nobody else reads."""
    found: list[Node] = []
    for edge in node.inputs:
        source = edge.source
        private = len(readers[source]) == 1 and source not in program.guard and source.channels == node.channels
        if private and _is_sum(program, source):
            inner.add(source)
            found += _leaves(program, source, readers, inner)
        else:
            found.append(source)
    return found


def _add(program: Program, like: Node, parts: list[Node], row: bool) -> Node:
    total = parts[0]
    for part in parts[1:]:
        node = Node("map", [Edge(total), Edge(part)], like.frame, like.channels, like.dtype, like.where, None,
                    {"fn": "add", "params": {}}, True, like.condition, like.stride)
        seen = [program.latest[n] for n in (total, part) if program.latest[n] is not None]
        program.latest[node] = max(seen) if seen else None  # type: ignore[type-var]
        program.stage[node] = Stage.ROW if row else max(program.stage[total], program.stage[part])
        total = node
    return total
