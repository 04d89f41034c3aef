"""The wave graph: one pixel of every live row of every slot. A lane has a slot, a row and a column of its own.

Lanes read states of earlier waves only, so all that they read is gathered from the states as they come in, and one
write per state ends the graph. The ahead graph computes for the lanes of several waves what all of them can know before
the first one. Legend: `M` lanes, `B` slots, `A` lanes of the waves that the ahead graph ran for.
"""

from __future__ import annotations

import math

import torch

from pixelsnail_infer.distributions import Distribution
from pixelsnail_infer.export.analysis.layout import Canvas
from pixelsnail_infer.export.analysis.stack import Stack
from pixelsnail_infer.export.analysis.stages import Stage
from pixelsnail_infer.export.analysis.wave import Wave
from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.canvas import declare, kept_as
from pixelsnail_infer.export.emission.crossing import crossing, crossing_keys
from pixelsnail_infer.export.emission.draw import emit_draw
from pixelsnail_infer.export.emission.graph import Kind, Value
from pixelsnail_infer.export.emission.results import exported, row_result_as
from pixelsnail_infer.export.emission.scope import Scope
from pixelsnail_infer.export.emission.step import StepScope
from pixelsnail_infer.export.fields import Edge, Node, Offset

__all__ = ["ahead_width", "emit_ahead", "emit_wave"]


def emit_wave(wave: Wave, graph: GraphBuilder, distribution: Distribution) -> None:
    """Fill `graph` with the wave graph."""
    program = wave.program
    scope = WaveScope(wave, graph)
    scope.emit(program.of(Stage.BEFORE))
    logits = graph.widened(scope.value(program.output))
    graph.output("logits", graph.copy(logits), ["M", distribution.parameters])
    graph.module = "draw"
    scope.pixel = emit_draw(graph, logits, None, program.shape[1], distribution, False)
    graph.output("pixel", scope.pixel, ["M", *distribution.pixel_shape])
    scope.values[program.pixel] = scope.pixel
    scope.emit(program.of(Stage.AFTER))
    scope.write_states()


def emit_ahead(wave: Wave, graph: GraphBuilder) -> None:
    """Fill `graph` with the ahead graph."""
    scope = LaneScope(wave, graph)
    scope.emit(wave.program.of(Stage.ROW))
    values = exported(wave.program, wave.layout.stacks)
    packed = graph.concat([scope.flat(node, row_result_as(graph, values)) for node in values], 1)
    graph.output("ahead", packed, ["M", ahead_width(wave)])


def ahead_width(wave: Wave) -> int:
    """Numbers per lane that the ahead graph gives."""
    return sum(math.prod(node.channels) for node in exported(wave.program, wave.layout.stacks))


class LaneScope(StepScope):
    """A point scope over lanes: `[M, *channels]`."""

    def __init__(self, wave: Wave, graph: GraphBuilder) -> None:
        Scope.__init__(self, wave.program, graph)
        self.layout, self.prologue = wave.layout, wave.prologue
        self.slot, self.row, self.col = (graph.input(name, "int", ["M"]) for name in ("slot", "row", "col"))
        if wave.lead:  # the column on the program's canvas
            self.col = graph.add(self.col, wave.lead)
        self.pieces: dict[Node, Value] = {}
        self.stacks = wave.layout.stacks
        self.stacked: dict[int, Value] = {}

    def flat(self, node: Node, kind: Kind) -> Value:
        """The node as `[M, channels]`, floating-point numbers of this kind."""
        value = self.graph.as_float(self.placed(node, kind) if node.op == "const" else self.value(node), kind)
        return value if len(node.channels) == 1 else self.graph.reshape(value, [0, math.prod(node.channels)])

    def source(self, node: Node) -> Value:
        """A prologue tensor at the lane's slot and position."""
        g = self.graph
        if node.frame is not None:
            return self._at(node, self.row, self.col)
        return g.gather(crossing(g, self.prologue, node), self.slot, 0)

    def _at(self, node: Node, row: Value, col: Value) -> Value:
        """A prologue map at a row and a column of every lane, `[M, *channels]`, or one that is upsampled."""
        g = self.graph
        if node.op == "upsample":
            fy, fx = node.attrs["factors"]
            return self._at(node.inputs[0].source, g.div(row, fy), g.div(col, fx))
        index = g.concat([g.unsqueeze(one, 1) for one in (self.slot, row, col)], 1)
        return g.pick(crossing(g, self.prologue, node), index)

    def keys(self, edge: Edge) -> Value:
        """All positions of a condition map that is attended to."""
        return self.graph.gather(crossing_keys(self.graph, self.prologue, edge.source), self.slot, 0)

    def tapped(self, node: Node) -> Value:
        """All taps but the lane's own pixel as one product, with the bias."""
        g, source, past = self.graph, node.inputs[0].source, self._past(node)
        if not source.pixel and node.op == "shift":
            return self._shifted(node)
        if past:
            self.pieces[node] = self._cells(source, past)
        if node.op != "linear" or not past or len(source.channels) != 1:
            return super().tapped(node)
        taps, bias = node.attrs["taps"], node.attrs["bias"]
        weight = torch.cat([taps[offset].T for offset in past])
        total = self.multiplied(node, self.pieces[node], weight, bias, vector=True)
        return g.add(total, self._here(node, source, taps[0, 0])) if (0, 0) in taps else total

    def _shifted(self, node: Node) -> Value:
        """A condition map's neighbour, border outside; without a border nobody asks for what is there."""
        g, (edge,) = self.graph, node.inputs
        source, (height, width) = edge.source, edge.source.frame  # type: ignore[misc]
        inside, place = list[Value](), list[Value]()
        for own, by, size in ((self.row, edge.dy, height), (self.col, edge.dx, width)):
            moved = g.add(own, by)
            inside += [g.binary("ge", moved, 0), g.binary("lt", moved, size)]
            place.append(g.binary("min", g.binary("max", moved, 0), size - 1))
        if edge.border is None:
            return self._at(source, *place)
        mask = g.both(g.both(inside[0], inside[1]), g.both(inside[2], inside[3]))
        fill = edge.border.to(source.dtype)
        mask = g.unsqueeze(mask, *range(1, 1 + len(source.channels))) if source.channels else mask
        return g.where(mask, self._at(source, *place), fill.expand(source.channels))

    def _cells(self, source: Node, offsets: list[Offset]) -> Value:
        """The source at these offsets, `[M, offsets * C]`."""
        g, (canvas, member) = self.graph, self.layout.place[source]
        index = self._index(canvas, tuple(offsets))
        if member:
            index = g.add(index, [[[0, member, 0]]])
        return g.reshape(g.pick(declare(g, canvas), index), [0, len(offsets) * canvas.channels])

    def _index(self, canvas: Canvas, offsets: tuple[Offset, ...]) -> Value:
        """Slot, member 0 and address of every lane's cells at these offsets, int `[M, offsets, 3]`."""
        g, depth = self.graph, canvas.rows - 1
        row = g.add(g.unsqueeze(self.row, 1), [[dy for dy, _ in offsets]])
        start = g.mul(g.mod(row, depth), canvas.stride)
        if any(dy < 0 for dy, _ in offsets):  # rows above the image lie behind the ring
            start = g.where(g.binary("lt", row, 0), depth * canvas.stride, start)
        address = g.add(g.add(start, g.unsqueeze(self.col, 1)), [[canvas.left + dx for _, dx in offsets]])
        slot = g.mul(g.unsqueeze(self.slot, 1, 2), [[[1, 0, 0]]])
        return g.add(slot, g.mul(g.unsqueeze(address, 2), [[[0, 0, 1]]]))


class WaveScope(LaneScope):
    """Emits what is left, and the draw."""

    def __init__(self, wave: Wave, graph: GraphBuilder) -> None:
        super().__init__(wave, graph)
        if wave.span > 1:
            self._take(ahead_width(wave))

    def _take(self, width: int) -> None:
        """What the ahead graph gave for this wave's lanes, cut into its values; those of a stack stay together."""
        g, rows, nodes = self.graph, self.stacks.rows, exported(self.program, self.stacks)
        singles = nodes[sum(len(row) for row in rows):]
        ahead = g.input("ahead", row_result_as(g, nodes), ["A", width])
        packed = g.gather(ahead, g.input("place", "int", ["M"]), 0)
        sizes = [sum(math.prod(n.channels) for n in row) for row in rows] + [math.prod(n.channels) for n in singles]
        parts = g.split(packed, sizes, 1) if len(sizes) > 1 else (packed,)
        self.stacked |= {id(row): part for row, part in zip(rows, parts, strict=False)}
        for node, part in zip(singles, parts[len(rows):], strict=True):
            self.values[node] = g.typed(self._shaped(part, node), node.dtype)

    def _stack_members(self, stack: Stack) -> Value:
        for operand in stack.operands:
            if isinstance(operand, list) and id(operand) not in self.stacked:  # nothing comes from ahead
                self.stacked[id(operand)] = self.graph.concat([self.flat(node, "float") for node in operand], 1)
        return super()._stack_members(stack)

    def write_states(self) -> None:
        """The writes that end the graph, behind the draw and everything that any of them writes: so nothing reads a
        state that is written already."""
        g, updates = self.graph, {}
        for canvas in self.layout.canvases:
            updates[canvas] = g.reshape(self._update(canvas), [0, len(canvas.members), canvas.channels])
        for canvas, update in updates.items():
            index = self._index(canvas, ((0, 0),))  # [M, 1, 3]
            members = [[[0, member, 0] for member in range(len(canvas.members))]]
            index = g.add(g.add(index, members), g.unsqueeze(self._written_last(canvas, updates), 1, 2))
            state = g.put(declare(g, canvas), g.as_kind(update, kept_as(g, canvas)), index)
            g.output(f"{canvas.name}.out", state, ["B", *canvas.shape])

    def _written_last(self, canvas: Canvas, updates: dict[Canvas, Value]) -> Value:
        """Zero, int `[M]`, that depends on the draw and on what the other canvases are to hold."""
        g, zero = self.graph, self._drawn()
        for other, update in updates.items():
            if other is not canvas:
                first = g.squeeze(g.slice(update, 0, 1, 1), 1)  # [M, C]
                zero = g.add(zero, g.mod(g.argmax(first, 1), 1))
        return zero
