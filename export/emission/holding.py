"""Values at one position, and what they were where they are not computed: stacks, merges, what canvases are to hold."""

from __future__ import annotations

import math
from abc import abstractmethod
from itertools import groupby

import torch

from pixelsnail_infer.export.analysis.layout import Canvas
from pixelsnail_infer.export.analysis.stack import Stack, Stacks
from pixelsnail_infer.export.analysis.stages import Stage
from pixelsnail_infer.export.emission.caching import CachingScope
from pixelsnail_infer.export.emission.canvas import cells_of, kept_as, row_start
from pixelsnail_infer.export.emission.graph import Value
from pixelsnail_infer.export.emission.merges import Phases
from pixelsnail_infer.export.fields import Node

__all__ = ["HoldingScope"]


class HoldingScope(CachingScope):
    """A point scope: `[B, *channels]`."""

    lead = 1
    count = 1

    row: Value
    col: Value
    stacks: Stacks
    stacked: dict[int, Value]

    def _shaped(self, flat: Value, node: Node) -> Value:
        """`[B, size]` as `[B, *channels]` of the node."""
        return flat if len(node.channels) == 1 else self.graph.reshape(flat, [0, *node.channels])

    def value(self, node: Node) -> Value:
        if node in self.stacks.of and node not in self.values:
            stack, _ = self.stacks.of[node]
            with self.graph.within(self.live.region(node)):
                parts = self.graph.split(self._stack(stack), [math.prod(node.channels)] * len(stack.members), 1)
                for member, part in zip(stack.members, parts, strict=True):
                    self.values[member] = self._shaped(part, member)
        return super().value(node)

    def _stack(self, stack: Stack) -> Value:
        """All members side by side, `[B, members * channels]`."""
        if id(stack) not in self.stacked:
            with self.graph.within(self.live.region(stack.members[0])):
                self.stacked[id(stack)] = self._stack_members(stack)
        return self.stacked[id(stack)]

    @abstractmethod
    def _stack_members(self, stack: Stack) -> Value:
        """What `_stack` gives, computed."""

    def _column(self, every: int, of: int = 1) -> Value:
        """The column in cells of `every` pixels, where the column is rounded down to a multiple of `of` before."""
        g, of = self.graph, max(every, of)
        column = self.col if of == 1 else g.div(self.col, of)
        return g.mul(column, of // every) if of > every else column

    def merged(self, node: Node) -> Value:
        """The phase that the slot is in: the first where its source is computed, else one that is held."""
        g, phases = self.graph, Phases(node)
        first, rank = phases.first_row[0], len(node.channels)
        with g.within(None):
            held = self._other_phases(node, phases)
        with g.within(self.live.region(first)):
            value = g.as_kind(self._phase(first, node), held.kind)
            return g.where(self.live.mask(phases.stride, rank), value, held)

    def _other_phases(self, node: Node, phases: Phases) -> Value:
        """Whichever of the later phases each slot is in, `[B, *channels]`."""
        g, phase, rank = self.graph, self.live.phase(node), len(node.channels)
        canvases: dict[str, tuple[Canvas, dict[int, int]]] = {}
        values: dict[Value, list[int]] = {}
        for number, source in list(enumerate(phases.all))[1:]:
            if source.pixel and self.program.stage[source] > Stage.ROW:
                canvas, member = self.layout.place[source]
                canvases.setdefault(canvas.name, (canvas, {}))[1][number] = member
            else:
                values.setdefault(self._phase(source, node), []).append(number)
        for canvas, members in canvases.values():
            table = [members.get(number, 0) for number in range(len(phases.all))]
            cells = g.squeeze(self._old(canvas), 2)  # [B, members, C]
            cell = g.gather_cells(cells, g.unsqueeze(g.gather(table, phase, 0), 1)) if len(canvas.members) > 1 \
                else g.squeeze(cells, 1)
            values[g.typed(self._shaped(cell, node), node.dtype)] = list(members)
        (value, _), *others = values.items()
        for other, numbers in others:
            hit = g.gather(torch.tensor([number in numbers for number in range(len(phases.all))]), phase, 0)
            value = g.where(g.unsqueeze(hit, *range(1, 1 + rank)) if rank else hit, other, value)
        return value

    def _phase(self, source: Node, node: Node) -> Value:
        """A source of a merge that is there as it is, `[B, *channels]`."""
        value = self.operand(source, node)
        return value if source.frame is not None else self.graph.expand(value, node.channels, self.row, 1)

    def _old(self, canvas: Canvas) -> Value:
        """What all members are in the slots' cell, `[B, members, 1, C]`."""
        g = self.graph
        with g.within(None):
            address = g.add(g.add(row_start(g, canvas), self._column(canvas.every[1])), canvas.left)
            return cells_of(g, canvas, g.unsqueeze(address, 1))

    def _old_of(self, canvas: Canvas, start: int, end: int) -> Value:
        """The same of some members side by side, `[B, members * C]`."""
        g, count = self.graph, len(canvas.members)
        with g.within(None):
            old = self._old(canvas)
            old = g.slice(old, start, end, 1) if end - start < count else old
            return g.reshape(old, [0, (end - start) * canvas.channels])

    def _update(self, canvas: Canvas) -> Value:
        """This position's values of all members, `[B, members, 1, C]`; those of before where it has none."""
        g, parts, start = self.graph, [], 0
        for region, run in groupby(canvas.members, self.live.region):
            members = list(run)
            with g.within(region):
                value = self._flat(canvas, members)
                if region is not None:
                    old = self._old_of(canvas, start, start + len(members))
                    value = g.where(self.live.mask(canvas.every, 1), value, old)
            parts.append(value)
            start += len(members)
        return g.reshape(g.concat(parts, 1), [0, len(canvas.members), 1, canvas.channels])

    def _flat(self, canvas: Canvas, members: list[Node]) -> Value:
        """Members of a canvas side by side, `[B, members * C]`."""
        g, flat, whole, kind = self.graph, [], set[int](), kept_as(self.graph, canvas)
        for member in members:
            stack = self.stacks.of.get(member, (None, 0))[0]
            if stack is not None and _together(canvas, stack):
                if id(stack) not in whole:
                    flat.append(g.as_kind(self._stack(stack), kind))
                whole.add(id(stack))
                continue
            value = g.as_float(self.value(member), kind)
            flat.append(value if len(member.channels) == 1 else g.reshape(value, [0, canvas.channels]))
        return g.concat(flat, 1)


def _together(canvas: Canvas, stack: Stack) -> bool:
    """Whether a stack's members stand side by side on a canvas."""
    members = list(canvas.members)
    if any(m not in members for m in stack.members):
        return False
    start = members.index(stack.members[0])
    return members[start:start + len(stack.members)] == stack.members
