"""State: the values that are read at another position than the one at which they are computed.

A value read through taps or shifts lives on a line canvas (a ring of the rows that taps reach); one read by attention
in a cache of all positions.
"""

from __future__ import annotations

from dataclasses import dataclass

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.analysis.availability import key_products
from pixelsnail_infer.export.analysis.stages import TAPPED, Program, Stage
from pixelsnail_infer.export.fields import Edge, Node, Offset, is_held, phase_of, reads
from pixelsnail_infer.export.lattice import cell

__all__ = ["Kept", "kept_values"]


@dataclass(slots=True)
class Kept:
    """Why a value is kept. `rows`: how many rows above are read; `left`, `right`: columns read beyond the position; all
    three in cells of the value's own stride, counted from the cell that the reader's pixel is in.

    `row_reads` and `step_reads` say which graph reads the canvas; `cache` that attention reads all positions, and
    `inclusive` that it reads what its own graph writes in the same run; `pool` gives the blocks of a pooled cache.
    `held`: merges read it at pixels where it is not live: at its own cell, rows and columns 0 away.
    """

    rows: int = 0
    left: int = 0
    right: int = 0
    row_reads: bool = False
    step_reads: bool = False
    cache: str = ""
    pool: Offset | None = None
    inclusive: bool = False
    held: bool = False

    @property
    def canvas(self) -> bool:
        return self.row_reads or self.step_reads


def kept_values(program: Program) -> dict[Node, Kept]:
    """Every pixel-dependent value that must outlive its position."""
    kept: dict[Node, Kept] = {}
    for node in program.order:
        for edge in node.inputs:
            source = edge.source
            if not source.pixel:
                continue
            if edge.keys:
                entry = kept.setdefault(source, Kept())
                role = "keys" if node.op == "key_dot" else "values"
                if entry.cache and entry.pool != edge.pool:
                    raise UnsupportedOpError(f"{source.where} is attended to both pooled and as it is.")
                entry.cache, entry.pool = entry.cache or role, edge.pool
            elif node.op in TAPPED:
                _canvas(program, kept, node, source, reads(node, edge))
            elif node.op == "merge":
                _hold(program, kept, node, edge)
    for mix, support in program.support.items():
        in_row = program.stage[mix] <= Stage.ROW
        if _own(support.values, in_row) and mix.inputs[1].source in kept:
            kept[mix.inputs[1].source].inclusive = True
        for dot, edge in key_products(mix):
            if _own(support.keys, program.stage[dot] <= Stage.ROW) and edge.source in kept:
                kept[edge.source].inclusive = True
    return kept


def _canvas(program: Program, kept: dict[Node, Kept], node: Node, source: Node, offsets: list[tuple[int, int]]) -> None:
    in_row = program.stage[node] <= Stage.ROW
    direct = {(0, 0)} if not in_row else {o for o in offsets if o[0] == 0}
    for dy, dx in offsets:
        if (dy, dx) in direct:
            continue
        entry = kept.setdefault(source, Kept())
        dy, dx = cell((dy, dx), source.stride)
        entry.rows = max(entry.rows, -dy)
        entry.left, entry.right = max(entry.left, -dx), max(entry.right, dx)
        if in_row:
            entry.row_reads = True
        else:
            entry.step_reads = True


def _hold(program: Program, kept: dict[Node, Kept], node: Node, edge: Edge) -> None:
    """A merge's source is kept for the pixels at which it is not live. A source of the row stage is known for the whole
    row where its row is live; where it is not, the row graph reads it, whoever needs it."""
    in_row = min(program.stage[node], program.stage[edge.source]) <= Stage.ROW
    if not is_held(node, edge) or (program.stage[edge.source] <= Stage.ROW and not phase_of(node, edge)[0]):
        return
    entry = kept.setdefault(edge.source, Kept())
    entry.held = True
    if in_row:
        entry.row_reads = True
    else:
        entry.step_reads = True


def _own(lag: Offset | None, in_row: bool) -> bool:
    """Whether attention with this lag reaches what its own graph writes in the same run."""
    return lag is not None and (lag[0] >= 0 if in_row else lag >= (0, 0))
