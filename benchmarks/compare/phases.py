"""How many parameters a network with strides reads at each row and each pixel: what is due at some only is left out at
the others."""

from __future__ import annotations

from math import lcm
from typing import Any

from pixelsnail_infer.export.artifacts import build_part
from pixelsnail_infer.export.compile import Compiled
from pixelsnail_infer.export.emission.graph import Graph
from pixelsnail_infer.export.emission.vocabulary import Constant

__all__ = ["reads"]


def reads(compiled: Compiled) -> dict[str, Any]:
    """The numbers in the row graph's weights by row, and in the step's by row and column, up to the largest stride."""
    row, step = build_part(compiled, "row"), build_part(compiled, "step")
    strides = [one.region.stride for graph in (row, step) for one in graph.steps if one.region]
    height, width = (lcm(1, *(stride[axis] for stride in strides)) for axis in (0, 1))
    return {
        "rows": [_read(row, i, 0) for i in range(height)],
        "steps": [[_read(step, i, j) for j in range(width)] for i in range(height)],
    }


def _read(graph: Graph, row: int, column: int) -> int:
    """The numbers, as `weights` of a graph counts them, in constants of operations that are not left out here."""
    sizes = {step.results[0]: step.operation.array.size for step in graph.steps
             if isinstance(step.operation, Constant) and step.operation.array.dtype.kind == "f"}  # fmt: skip
    read = set()
    for step in graph.steps:
        down, right = step.region.stride if step.region else (1, 1)
        if row % down == 0 and column % right == 0:
            read.update(step.operation.operands())
    return sum(size for value, size in sizes.items() if size > 1 and value in read)
