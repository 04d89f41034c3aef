"""Which values of a stride are computed together: all that can be, without waiting for one another.

Between two values of one stride there may be one of another stride, made of the first and read for the second. They are
then of different depths: the longest way to a value, counted in changes of the stride.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pixelsnail_infer.export.analysis.stages import Program, Stage
from pixelsnail_infer.export.fields import Node, Offset

__all__ = ["Together", "together"]

EVERYWHERE = (1, 1)


@dataclass(frozen=True, slots=True, order=True)
class Together:
    """Values of one stage, stride and depth."""

    stage: Stage
    stride: Offset
    depth: int


def together(program: Program, stages: Iterable[Stage], by_row: bool = False) -> dict[Node, Together]:
    """Of the values of some stages those that are not computed at every position, or with `by_row` not in every row,
    whatever the columns."""
    found, depth, taken = dict[Node, Together](), dict[Node, int](), frozenset(stages)
    for node in program.order:
        if program.stage[node] not in taken:
            continue
        own = _stride(node, by_row)
        depth[node] = max((depth[edge.source] + (_stride(edge.source, by_row) != own)
                           for edge in node.inputs if edge.source in depth), default=0)
        if own != EVERYWHERE:
            found[node] = Together(program.stage[node], own, depth[node])
    return found


def _stride(node: Node, by_row: bool) -> Offset:
    """Of values without positions that of everywhere: whoever needs them computes them."""
    if node.frame is None:
        return EVERYWHERE
    return (node.stride[0], 1) if by_row else node.stride
