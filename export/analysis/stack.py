"""Stacks: independent products of one shape, and the elementwise work on them, side by side in one tensor.

In the stock priors every convolution's taps in the current row lie left of the pixel, so that the products of a step do
not depend on each other. Their sums, activations and gates then need one node for all instead of one each; at batch 1
nodes cost as much as arithmetic. Members lie side by side: a stack is `[B, members * channels]`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pixelsnail_infer.export.analysis.depths import Together, together
from pixelsnail_infer.export.analysis.stages import Program, Stage
from pixelsnail_infer.export.fields import Node, reads

__all__ = ["Stack", "Stacks", "find_stacks"]


@dataclass(slots=True, eq=False)
class Stack:
    """Members in order. `operands` of a map: another stack, or a list with a row-stage value for every member."""

    members: list[Node]
    operands: list[Stack | list[Node]] = field(default_factory=list)


@dataclass(slots=True)
class Stacks:
    """All stacks, and for every member its stack and number. `rows`: row values that must lie side by side."""

    of: dict[Node, tuple[Stack, int]] = field(default_factory=dict)
    rows: list[list[Node]] = field(default_factory=list)


def find_stacks(program: Program, biased: bool = False) -> Stacks:
    """Group the step's nodes: first products that read only the past, `biased` ones too if so asked, then what is done
    to all of them."""
    result = Stacks()
    before, apart = program.of(Stage.BEFORE), together(program, (Stage.BEFORE,))
    for members in _groups((_seed_key(program, n, biased, apart.get(n)), n) for n in before):
        _register(result, Stack(members))
    claimed: set[Node] = set()
    grown = True
    while grown:
        grown = False
        for members in _groups((_map_key(program, result, claimed, n, apart), n)
                               for n in before if n not in result.of):
            stack = _grown(program, result, members)
            if stack is not None:
                _register(result, stack)
                rows = [o for o in stack.operands if isinstance(o, list)]
                result.rows += rows
                claimed.update(n for row in rows for n in row)
                grown = True
    return result


def _register(result: Stacks, stack: Stack) -> None:
    result.of.update({node: (stack, k) for k, node in enumerate(stack.members)})


def _groups(keyed: Iterable[tuple[object, Node]]) -> list[list[Node]]:
    found: dict[object, list[Node]] = {}
    for key, node in keyed:
        if key is not None:
            found.setdefault(key, []).append(node)
    return [members for members in found.values() if len(members) > 1]


def _seed_key(program: Program, node: Node, biased: bool, apart: Together | None) -> object:
    """What products have in common that may be stacked."""
    if node.op != "linear" or node.frame is None or node in program.guard:
        return None
    if node.attrs["bias"] is not None and not biased:
        return None
    source = node.inputs[0].source
    offsets = tuple(reads(node, node.inputs[0]))
    if not source.pixel or any(o == (0, 0) for o in offsets) or len(node.channels) != 1 or len(source.channels) != 1:
        return None
    return offsets, source.channels, node.channels, source.stride, node.stride, apart


def _map_key(program: Program, result: Stacks, claimed: set[Node], node: Node, apart: dict[Node, Together]) -> object:
    """What elementwise nodes and slices have in common whose operands are stacked."""
    if node.op not in ("map", "slice") or node in program.guard or node.keys or not node.dtype.is_floating_point:
        return None
    operands: list[object] = []
    for edge in node.inputs:
        source = edge.source
        if source.channels != node.inputs[0].source.channels:
            return None
        if source in result.of:
            operands.append(id(result.of[source][0]))
        elif source.frame is not None and program.stage[source] <= Stage.ROW and source not in claimed:
            operands.append("row")
        else:
            return None
    attrs = {k: v for k, v in node.attrs.items() if k != "params"}
    key = (node.op, repr(sorted(attrs.items())), repr(sorted(node.attrs.get("params", {}).items())), node.channels,
           node.stride, apart.get(node))
    return (*key, *operands) if any(isinstance(o, int) for o in operands) else None


def _grown(program: Program, result: Stacks, members: list[Node]) -> Stack | None:
    """The stack of `members`, if they use every member of their operands' stacks once and in the same order."""
    stacked = next(k for k, e in enumerate(members[0].inputs) if e.source in result.of)
    members = sorted(members, key=lambda n: result.of[n.inputs[stacked].source][1])
    operands: list[Stack | list[Node]] = []
    for k, edge in enumerate(members[0].inputs):
        sources = [n.inputs[k].source for n in members]
        if edge.source in result.of:
            stack = result.of[edge.source][0]
            if sources != stack.members:
                return None
            operands.append(stack)
        else:
            if len(set(sources)) != len(sources):
                return None
            operands.append(sources)
    return Stack(members, operands)
