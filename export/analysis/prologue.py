"""The prologue: what depends on conditions only, and where it is cut so that the fewest bytes cross.

Everything that mixes positions, and every vector, is computed once per image. Position-wise work on maps may as well be
done a row at a time by the row graph, at the same cost; which of those maps are handed over is a minimum cut by bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import networkx as nx

from pixelsnail_infer.export.analysis.stages import Program, Stage
from pixelsnail_infer.export.fields import Node, reads

__all__ = ["Prologue", "cut_prologue"]

LOCAL = ("map", "linear", "cat", "slice", "reshape", "permute", "softmax", "log_softmax", "reduce", "embedding",
         "upsample")


@dataclass(slots=True)
class Prologue:
    """The values that cross, in the order of their names `prologue.<k>`."""

    crossing: list[Node]

    def name(self, node: Node) -> str:
        """The tensor name of a crossing value."""
        return f"prologue.{self.crossing.index(node)}"

    def shape(self, node: Node) -> list[int]:
        """Shape without the batch: `[h, w, *channels]`, or `[*channels]` for a vector."""
        return [*(node.frame or ()), *node.channels]

    def dtype(self, node: Node, precision: str) -> str:
        """Codes and labels cross as int64, everything else as floating point."""
        return precision if node.dtype.is_floating_point else "int64"


def cut_prologue(program: Program) -> Prologue:
    """Choose the crossing values; position-wise maps behind the cut move to the row stage of `program`."""
    nodes = program.of(Stage.PROLOGUE)
    known = set(nodes)
    read = {e.source for n in program.order if program.stage[n] >= Stage.ROW for e in n.inputs if e.source in known}
    local = {node for node in nodes if _local(program, node)} - _read_elsewhere(program, known)
    graph = nx.DiGraph()
    for number, node in enumerate(nodes):
        graph.add_edge(("in", number), ("out", number), capacity=_bytes(node))
        if node not in local:
            graph.add_edge("source", ("in", number))
        for edge in node.inputs:
            if edge.source in known and node in local:
                graph.add_edge(("out", nodes.index(edge.source)), ("in", number))
        if node in read:
            graph.add_edge(("out", number), "sink")
    if not read:
        return Prologue([])
    _, (reached, _) = nx.minimum_cut(graph, "source", "sink")
    crossing = [n for k, n in enumerate(nodes) if ("in", k) in reached and ("out", k) not in reached]
    _move_behind(program, set(crossing), read)
    return Prologue(crossing)


def _bytes(node: Node) -> int:
    return math.prod((*(node.frame or ()), *node.channels)) * (4 if node.dtype.is_floating_point else 8)


def _local(program: Program, node: Node) -> bool:
    """Whether the row graph can compute a node of the prologue from its inputs, row by row."""
    if node.op not in LOCAL or node.frame != program.shape or node.keys or node.stride != (1, 1):
        return False
    if node.op == "upsample":
        return True
    if node.op == "linear" and list(node.attrs["taps"]) != [(0, 0)]:
        return False
    return all(not e.keys and (e.source.frame in (None, program.shape)) and not e.dy and not e.dx for e in node.inputs)


def _read_elsewhere(program: Program, known: set[Node]) -> set[Node]:
    """Condition values that are read whole or at another position: the row graph never holds them so."""
    found = set()
    for node in program.order:
        if program.stage[node] >= Stage.ROW:
            for edge in node.inputs:
                if edge.source in known and (edge.keys or any(offset != (0, 0) for offset in reads(node, edge))):
                    found.add(edge.source)
    return found


def _move_behind(program: Program, crossing: set[Node], read: set[Node]) -> None:
    """Nodes that the readers need and that are not handed over are computed per row: copies of them, since what is
    handed over may be made of the same nodes."""
    copies: dict[Node, Node] = {}

    def copy(node: Node) -> Node:
        if node in crossing or program.stage[node] is not Stage.PROLOGUE:
            return node
        if node not in copies:
            copies[node] = replace(node, inputs=[replace(edge, source=copy(edge.source)) for edge in node.inputs])
            program.latest[copies[node]], program.stage[copies[node]] = program.latest[node], Stage.ROW
        return copies[node]

    for node in program.of(Stage.ROW, Stage.BEFORE, Stage.AFTER):
        for edge in node.inputs:
            if edge.source in read:
                edge.source = copy(edge.source)
    program.refresh()
