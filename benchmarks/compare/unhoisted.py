"""The exporter's program without a row graph: the cached step that one writes by hand, in which every pixel computes
all that it needs from earlier ones. The exporter has no such plan; three of its functions are exchanged meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pixelsnail_infer.export import compile
from pixelsnail_infer.export.analysis import stages
from pixelsnail_infer.export.analysis.stages import Program, Stage
from pixelsnail_infer.export.analysis.states import Kept
from pixelsnail_infer.export.emission.canvas import gather, row_start
from pixelsnail_infer.export.emission.step import StepScope
from pixelsnail_infer.export.fields import Node

__all__ = ["without_rows"]


@contextmanager
def without_rows() -> Iterator[None]:
    """Within it, what rows above determine is staged for the step, like everything else."""
    stage, values, cells = stages._stage, compile.kept_values, StepScope._gather

    def late(node: Node, latest: Any) -> Stage:
        found = stage(node, latest)
        return Stage.BEFORE if found == Stage.ROW else found

    def longer(program: Program) -> dict[Node, Kept]:
        """Rows above are read while the row itself is written: a ring holds one more."""
        found = values(program)
        for entry in found.values():
            entry.rows += 1
        return found

    stages._stage, compile.kept_values, StepScope._gather = late, longer, _gather  # type: ignore[method-assign]
    try:
        yield
    finally:
        stages._stage, compile.kept_values, StepScope._gather = stage, values, cells  # type: ignore[method-assign]


def _gather(self: StepScope) -> None:
    """As the exporter's own, but of rows above as well."""
    g = self.graph
    for canvas in self.layout.canvases:
        readers = [node for node in self.program.of(Stage.BEFORE, Stage.AFTER)
                   if node.op in ("linear", "lookup", "shift") and node.frame is not None and self._past(node)
                   and self.layout.place.get(node.inputs[0].source, (None,))[0] is canvas]
        if not readers:
            continue
        cells = [(self.layout.place[node.inputs[0].source][1], dy, dx) for node in readers
                 for dy, dx in self._past(node)]
        rows = {dy: g.unsqueeze(row_start(g, canvas, dy), 1) for _, dy, _ in cells}
        address = g.add(g.concat([rows[dy] for _, dy, _ in cells], 1), g.unsqueeze(self.col, 0))  # [B, cells]
        address = g.add(address, [[canvas.left + dx for _, _, dx in cells]])
        values = gather(g, canvas, address, torch.tensor([member for member, _, _ in cells]))  # [B, cells, C]
        sizes = [len(self._past(node)) * canvas.channels for node in readers]
        values = g.reshape(values, [0, sum(sizes)])
        parts = g.split(values, sizes, 1) if len(readers) > 1 else (values,)
        self.pieces.update(zip(readers, parts, strict=True))
