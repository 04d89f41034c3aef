"""The row graph: everything that rows above determine, for all columns of one row at once."""

from __future__ import annotations

import math

import torch

from pixelsnail_infer.export.analysis.depths import together
from pixelsnail_infer.export.analysis.layout import Cache, Canvas, Layout
from pixelsnail_infer.export.analysis.prologue import Prologue
from pixelsnail_infer.export.analysis.row_forms import PLAIN
from pixelsnail_infer.export.analysis.stages import Program, Stage
from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.canvas import blocks, cells_of, declare, gather, kept_as, row_start, write
from pixelsnail_infer.export.emission.crossing import crossing_keys
from pixelsnail_infer.export.emission.graph import Kind, Value
from pixelsnail_infer.export.emission.liveness import Liveness
from pixelsnail_infer.export.emission.merges import Phases
from pixelsnail_infer.export.emission.results import RowResult, row_result_as, row_results
from pixelsnail_infer.export.emission.row_reads import RowReads
from pixelsnail_infer.export.fields import Edge, Node

__all__ = ["RowScope", "emit_row"]


def emit_row(program: Program, layout: Layout, prologue: Prologue, graph: GraphBuilder, form: str = PLAIN) -> None:
    """Fill `graph` with the row graph. `form`: of its products, one of `ROW_FORMS`."""
    scope = RowScope(program, layout, prologue, graph, form)
    scope.emit(program.of(Stage.ROW))
    for result in row_results(program, layout.stacks):
        graph.output(result.name, scope.packed(result), ["B", result.columns, max(sum(result.sizes), 1)])
    scope.write_states()


class RowScope(RowReads):
    """Emits the row stage, what the step gets of it, and what later rows read."""

    def __init__(self, program: Program, layout: Layout, prologue: Prologue, graph: GraphBuilder, form: str) -> None:
        super().__init__(program, layout, prologue, graph, form)
        self.live = Liveness(graph, together(program, (Stage.ROW,), by_row=True), self.row)
        self._updates: dict[str, Value] = {}

    def packed(self, result: RowResult) -> Value:
        """A row result, `[B, columns, width]`. What is not computed in this row is what it was, or 0 if nobody asks."""
        g, nodes = self.graph, result.nodes
        kind = row_result_as(g, nodes)
        if not nodes:
            return g.copy(self._nothing())
        if result.held:
            parts = [g.as_kind(self._held_row(node), kind) if node.pixel else self.flat(node, kind) for node in nodes]
            return g.concat(parts, 2) if len(parts) > 1 else g.copy(parts[0])
        with g.within(self.live.latest(nodes)) as region:
            parts = [self.flat(node, kind) for node in nodes]
            if region is None:
                return g.concat(parts, 2) if len(parts) > 1 else g.copy(parts[0])
            return g.where(self.live.mask(region.stride, 2), g.concat(parts, 2), self._zeros(result, kind))

    def _nothing(self) -> Value:
        """A zero per slot and column, where the step needs no row result."""
        g = self.graph
        zero = g.cast(g.mul(self.row, 0), "float")
        return g.add(g.unsqueeze(zero, 1, 2), torch.zeros(1, self.count, 1))

    def _zeros(self, result: RowResult, kind: Kind) -> Value:
        g = self.graph
        with g.within(None):
            return g.expand(g.constant([[[0.0]]], kind), [result.columns, sum(result.sizes)], self.row, 1)

    def flat(self, node: Node, kind: Kind) -> Value:
        """The node as `[B, columns, channels]`, floating-point numbers of this kind."""
        value = self.graph.as_float(self.placed(node, kind) if node.op == "const" else self.value(node), kind)
        return value if len(node.channels) == 1 else self.graph.reshape(value, [0, 0, math.prod(node.channels)])

    def _update(self, canvas: Canvas) -> Value:
        """This row's values of all members, `[B, members, columns, C]`; those of rows before where it has none."""
        g = self.graph
        if canvas.name not in self._updates:
            with g.within(self.live.latest(canvas.members)) as region:
                update = g.concat([g.unsqueeze(self.flat(member, kept_as(g, canvas)), 1)
                                   for member in canvas.members], 1)
                if region is not None:
                    update = g.where(self.live.mask(region.stride, 3), update, self._old(canvas))
            self._updates[canvas.name] = update
        return self._updates[canvas.name]

    def _old(self, canvas: Canvas) -> Value:
        """What all members are in the row of cells in which the slots are, `[B, members, columns, C]`."""
        g = self.graph
        with g.within(None):
            return cells_of(g, canvas, self._own_cells(canvas))

    def _own_cells(self, canvas: Canvas) -> Value:
        """Addresses of the row of cells in which the slots are, `[B, columns]`."""
        columns = (torch.arange(canvas.width) + canvas.left)[None]
        return self.graph.add(self.graph.unsqueeze(row_start(self.graph, canvas), 1), columns)

    def _held_row(self, node: Node) -> Value:
        """The node's row `[B, columns, channels]`, also where it was computed in a row before."""
        canvas, member = self.layout.place[node]
        return self.graph.squeeze(self.graph.slice(self._update(canvas), member, member + 1, 1), 1)

    def merged(self, node: Node) -> Value:
        """Phases take turns along the row; in rows between they are those of the row in which they were computed."""
        g, phases = self.graph, Phases(node)
        with g.within(self.live.latest(phases.first_row)):
            line = self._interleaved(node, [self._line(source, node) for source in phases.first_row])
            if len(phases.rows) == 1:
                return line
            mask, held = self.live.mask((phases.stride[0], 1), 1 + len(node.channels)), self._between(node, phases)
            return g.where(mask, g.as_kind(line, held.kind), held)

    def _between(self, node: Node, phases: Phases) -> Value:
        """The rows of a merge behind its first phase, `[B, columns, *channels]`, of the phase that each slot is in."""
        g = self.graph
        with g.within(None):
            lines = [self._interleaved(node, [self._line(source, node, held=True) for source in row])
                     for row in phases.rows[1:]]
            phase, line = self.live.phase(node), lines[-1]
            for number, other in enumerate(lines[:-1], 1):
                mask = g.unsqueeze(g.binary("eq", phase, number), *range(1, 2 + len(node.channels)))
                line = g.where(mask, other, line)
            return line

    def _line(self, source: Node, node: Node, held: bool = False) -> Value:
        """A phase in full, `[B, columns of its own, *channels]`."""
        g = self.graph
        if source.frame is None:
            value = self.operand(source, node)
            sizes = [self.count // (node.stride[1] * node.attrs["factors"][1]), *node.channels]
            return g.expand(value, sizes, self.row, 1)
        if source.op == "const":
            return self.placed(source)
        if not (held and source.pixel):
            return self.value(source)
        canvas, member = self.layout.place[source]
        if canvas.writer == "row":
            old = g.squeeze(g.slice(self._old(canvas), member, member + 1, 1), 1)
        else:
            old = gather(g, canvas, self._own_cells(canvas), torch.full((1,), member))
        return g.typed(g.reshape(old, [0, 0, *source.channels]) if len(source.channels) != 1 else old, source.dtype)

    def _interleaved(self, node: Node, lines: list[Value]) -> Value:
        """`[B, columns, *channels]` each, whose columns take turns."""
        g = self.graph
        if len(lines) == 1:
            return lines[0]
        together = g.concat([g.unsqueeze(line, 2) for line in lines], 2)
        return g.reshape(together, [0, self.columns(node), *node.channels])

    def write_states(self) -> None:
        """The writes of what later rows read of this one."""
        g = self.graph
        for canvas in self.layout.canvases:
            if canvas.writer == "row":
                update, address = self._update(canvas), g.add(row_start(g, canvas), canvas.left)
                result = write(g, canvas, update, self._written_last(canvas, address))
                g.output(f"{canvas.name}.out", result, ["B", *canvas.shape])
        for cache in self.layout.caches:
            if cache.writer == "row":
                g.output(f"{cache.name}.out", self._cache_result(cache.member), ["B", *cache.axes])

    def _written_last(self, canvas: Canvas, address: Value) -> Value:
        """The address, with strides made to depend on what the other canvases are to hold: of writes that stand between
        values that are read again TensorRT's builder may not find the order."""
        g, rows = self.graph, [one for one in self.layout.canvases if one.writer == "row"]
        if all(one.every == (1, 1) for one in rows):
            return address
        for other in (one for one in rows if one is not canvas):
            first = g.reshape(g.slice(g.slice(self._update(other), 0, 1, 1), 0, 1, 2), [0, other.channels])
            address = g.add(address, g.mod(g.argmax(first, 1), 1))
        return address

    def _cache_result(self, node: Node) -> Value:
        g, cache = self.graph, self.layout.cache[node]
        heads, _, width = cache.shape
        value = g.reshape(self.value(node), [0, 0, heads, width])
        update = g.transpose(value, [0, 2, 1, 3])  # [B, heads, W, d]
        if cache.pool is not None:
            return self._pooled(cache, update)
        return write(g, cache, update, g.mul(self.row, self.count))

    def _pooled(self, cache: Cache, update: Value) -> Value:
        """The row's maxima into the blocks that it belongs to; the first row of a block starts it anew."""
        g, (py, px), (heads, _, width) = self.graph, cache.pool or (1, 1), cache.shape
        count = self.count // px
        update = g.reduce("max", g.reshape(update, [0, heads, count, px, width]), 3)  # [B, heads, W / px, d]
        start = g.mul(g.div(self.row, py), count)  # [B]
        cells = g.add(g.unsqueeze(start, 1), torch.arange(count)[None])
        first = g.binary("eq", g.mod(self.row, py), 0)
        more = g.binary("max", blocks(g, cache, cells), update)
        update = g.where(g.unsqueeze(first, 1, 2, 3), update, more)
        return write(g, cache, update, start)

    def positions(self, frame: tuple[int, int]) -> Value:
        g = self.graph
        start = g.unsqueeze(g.mul(self.row, self.count), 1, 2, 3)
        return g.add(start, torch.arange(self.count).view(1, 1, -1, 1))

    def keys(self, edge: Edge) -> Value:
        node = edge.source
        if node.pixel:
            cache = self.layout.cache[node]
            if cache.writer == "row" and cache.inclusive:
                return self._cache_result(node)
            return declare(self.graph, cache)
        return crossing_keys(self.graph, self.prologue, node)

    def guard(self, node: Node, value: Value) -> Value:
        g, (top, left) = self.graph, self.program.guard[node]
        rank = len(node.channels)
        inside = g.unsqueeze(g.binary("ge", self.row, top), *range(1, 2 + rank))
        columns = (torch.arange(0, self.count, node.stride[1]) >= left).view(1, -1, *(1,) * rank)
        mask = g.both(inside, columns)
        return g.where(mask, value, self.program.border[node].to(node.dtype).expand(node.channels))
