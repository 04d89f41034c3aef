"""Row results: what the row graph hands to the step, packed by where it is and when it is asked for.

Values of every column and row are `row_result`. Those of a stride lie at their own columns in tensors of their own, one
for each region of the step that alone reads them, and one for what is read at other positions, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pixelsnail_infer.export.analysis.depths import Together, together
from pixelsnail_infer.export.analysis.stack import Stacks
from pixelsnail_infer.export.analysis.stages import Program, Stage
from pixelsnail_infer.export.analysis.widths import is_exact
from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.graph import Kind
from pixelsnail_infer.export.fields import Node, Offset, phase_of

__all__ = ["RowResult", "exported", "held_rows", "row_result_as", "row_results"]


@dataclass(slots=True)
class RowResult:
    """One of them, `[B, columns, width]`: `rows` of values that the step uses as one stack, then `singles`. `readers`
    is what alone reads it in the step, None for others; `held` that it is read in rows where it is not computed."""

    name: str
    stride: Offset
    columns: int
    readers: Together | None
    held: bool
    rows: list[list[Node]] = field(default_factory=list)
    singles: list[Node] = field(default_factory=list)

    @property
    def nodes(self) -> list[Node]:
        """All values in their order."""
        return [*(node for row in self.rows for node in row), *self.singles]

    @property
    def sizes(self) -> list[int]:
        """Numbers of a position, of each stack's and of each other value."""
        return [*(sum(math.prod(n.channels) for n in row) for row in self.rows),
                *(math.prod(n.channels) for n in self.singles)]


def exported(program: Program, stacks: Stacks) -> list[Node]:
    """Positional values of the row stage or before that the step reads: the row result, in this order.

    Values that the step uses as one stack come first and lie side by side.
    """
    found: dict[Node, None] = {node: None for row in stacks.rows for node in row}
    for node in program.of(Stage.BEFORE, Stage.AFTER):
        for edge in node.inputs:
            source = edge.source
            if edge.keys or source.frame is None or source.keys or program.stage[source] > Stage.ROW:
                continue
            if node.op == "shift" and not source.pixel:  # a lane picks its own
                continue
            found[source] = None
    return list(found)


def row_result_as(g: GraphBuilder, values: list[Node]) -> Kind:
    """What the row result holds numbers as."""
    return g.wide if is_exact(values) else "float"


def held_rows(program: Program) -> set[Node]:
    """Values of the row stage or before that the step reads in rows of which none of their own begins."""
    return {edge.source for node in program.of(Stage.BEFORE, Stage.AFTER) if node.op == "merge" for edge in node.inputs
            if program.stage[edge.source] <= Stage.ROW and phase_of(node, edge)[0]}


def row_results(program: Program, stacks: Stacks) -> list[RowResult]:
    """All of them, `row_result` first."""
    readers, held = _readers(program), held_rows(program)
    whole = RowResult("row_result", (1, 1), program.shape[1], None, False)
    found: dict[object, RowResult] = {((1, 1), None, False): whole}

    def of(node: Node) -> RowResult:
        together = readers.get(node) if node.stride != (1, 1) else None
        key = (node.stride, together, node in held)
        columns = program.shape[1] // node.stride[1]
        return found.setdefault(key, RowResult(f"row_result.{len(found)}", node.stride, columns, *key[1:]))

    for row in stacks.rows:
        of(row[0]).rows.append(row)
    stacked = {node for row in stacks.rows for node in row}
    for node in exported(program, stacks):
        if node not in stacked:
            of(node).singles.append(node)
    return list(found.values())


def _readers(program: Program) -> Mapping[Node, Together | None]:
    """Of what the step reads, the values that are computed together and alone read it; None where there are others."""
    of = together(program, (Stage.BEFORE, Stage.AFTER))
    found: dict[Node, set[Together | None]] = {}
    for node in program.of(Stage.BEFORE, Stage.AFTER):
        for edge in node.inputs:  # merges read where what they read is not live
            found.setdefault(edge.source, set()).add(None if node.op == "merge" else of.get(node))
    return {node: next(iter(keys)) if len(keys) == 1 else None for node, keys in found.items()}
