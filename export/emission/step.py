"""The step graph: one pixel of every slot. A part before the draw, the draw, and what needs the drawn pixel."""

from __future__ import annotations

import math

import torch

from pixelsnail_infer.distributions import Distribution
from pixelsnail_infer.export.analysis.depths import Together, together
from pixelsnail_infer.export.analysis.layout import Cache, Canvas, Layout
from pixelsnail_infer.export.analysis.prologue import Prologue
from pixelsnail_infer.export.analysis.stack import Stack
from pixelsnail_infer.export.analysis.stages import Program, Stage
from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.canvas import declare, gather, row_start, write
from pixelsnail_infer.export.emission.crossing import crossing, crossing_keys
from pixelsnail_infer.export.emission.draw import emit_draw
from pixelsnail_infer.export.emission.graph import Kind, Value
from pixelsnail_infer.export.emission.holding import HoldingScope
from pixelsnail_infer.export.emission.liveness import Liveness
from pixelsnail_infer.export.emission.maps import emit_map
from pixelsnail_infer.export.emission.results import RowResult, row_result_as, row_results
from pixelsnail_infer.export.emission.row_reads import look_up
from pixelsnail_infer.export.fields import TAPPED, Edge, Node, reads

__all__ = ["emit_step"]


def emit_step(program: Program, layout: Layout, prologue: Prologue, graph: GraphBuilder, distribution: Distribution,
              filtered: bool = False) -> None:
    """Fill `graph` with the step graph, with top-k and top-p where `filtered`."""
    scope = StepScope(program, layout, prologue, graph)
    scope.emit(program.of(Stage.BEFORE))
    logits = graph.widened(scope.value(program.output))
    graph.output("logits", graph.copy(logits), ["B", distribution.parameters])
    graph.module = "draw"
    scope.pixel = emit_draw(graph, logits, scope.col, program.shape[1], distribution, filtered)
    graph.output("pixel", scope.pixel, ["B", *distribution.pixel_shape])
    scope.values[program.pixel] = scope.pixel
    scope.emit(program.of(Stage.AFTER))
    scope.write_states()


class StepScope(HoldingScope):
    """A point scope: `[B, *channels]`."""

    pixel: Value  # once it is drawn

    def __init__(self, program: Program, layout: Layout, prologue: Prologue, graph: GraphBuilder) -> None:
        super().__init__(program, layout, prologue, graph)
        self.row, self.col = graph.input("row", "int", ["B"]), graph.input("col", "int", [1])
        self.live = Liveness(graph, together(program, (Stage.BEFORE, Stage.AFTER)), self.row, self.col)
        self.pieces: dict[Node, Value] = {}
        self.stacks = layout.stacks
        self.stacked: dict[int, Value] = {}  # by id of a stack, or of a list of row values
        for result in row_results(program, layout.stacks):
            self._unpack(result)
        self._gather()

    def _unpack(self, result: RowResult) -> None:
        """A row result's column, cut into its values; those of a stack stay together."""
        g, sizes, every = self.graph, result.sizes, result.stride[1]
        kind = row_result_as(g, result.nodes)
        whole = g.input(result.name, kind, ["B", result.columns, max(sum(sizes), 1)])
        if not sizes:
            return
        with g.within(self.live.region_of(result.readers)):
            column = self.col if every == 1 else g.div(self.col, every)
            packed = g.squeeze(g.gather(whole, column, 1), 1)
            parts = g.split(packed, sizes, 1) if len(sizes) > 1 else (packed,)
            for row, part in zip(result.rows, parts, strict=False):
                self.stacked[id(row)] = part
            for node, part in zip(result.singles, parts[len(result.rows):], strict=True):
                self.values[node] = g.typed(self._shaped(part, node), node.dtype)

    def _gather(self) -> None:
        """All canvas cells that the step reads: one gather per canvas and region, cut per reading node."""
        for canvas in self.layout.canvases:
            readers: dict[Together | None, list[Node]] = {}
            for node in self.program.of(Stage.BEFORE, Stage.AFTER):
                if (node.op in TAPPED and node.frame is not None and self._past(node)
                        and self.layout.place.get(node.inputs[0].source, (None,))[0] is canvas):
                    readers.setdefault(self.live.of.get(node), []).append(node)
            for key, nodes in readers.items():
                with self.graph.within(self.live.region_of(key)):
                    self._gather_for(nodes, canvas)

    def _gather_for(self, readers: list[Node], canvas: Canvas) -> None:
        """The cells of one canvas that these nodes read."""
        g, every = self.graph, canvas.every[1]
        cells = [(self.layout.place[n.inputs[0].source][1], dx // every) for n in readers for _, dx in self._past(n)]
        address = g.unsqueeze(g.add(row_start(g, canvas), self._column(every, readers[0].stride[1])), 1)  # [B, 1]
        address = g.add(address, [[canvas.left + dx for _, dx in cells]])  # [B, cells]
        values = gather(g, canvas, address, torch.tensor([m for m, _ in cells]))  # [B, cells, C]
        sizes = [len(self._past(n)) * canvas.channels for n in readers]
        values = g.reshape(values, [0, sum(sizes)])
        parts = g.split(values, sizes, 1) if len(readers) > 1 else (values,)
        self.pieces.update(zip(readers, parts, strict=True))

    def _past(self, node: Node) -> list[tuple[int, int]]:
        """The offsets at which a node reads its source's past in this row."""
        return [o for o in reads(node, node.inputs[0]) if o != (0, 0)] if node.inputs[0].source.pixel else []

    def emit(self, nodes: list[Node]) -> None:
        for node in nodes:
            if node in self.stacks.of:
                self._stack(self.stacks.of[node][0])
            else:
                super().emit([node])

    def _stack_members(self, stack: Stack) -> Value:
        g, node, count = self.graph, stack.members[0], len(stack.members)
        if not stack.operands:
            return g.concat([self.product(member) for member in stack.members], 1)
        args = [self._stack(o) if isinstance(o, Stack) else self.stacked[id(o)] for o in stack.operands]
        args = self.rounding.together(node, args)
        if node.op == "map":
            return emit_map(g, node.attrs["fn"], args, node.attrs.get("params", {}), node)
        apart = g.reshape(args[0], [0, count, *node.inputs[0].source.channels])
        return g.reshape(self.cut(node, apart, 2), [0, count * math.prod(node.channels)])

    def positions(self, frame: tuple[int, int]) -> Value:
        return self.graph.unsqueeze(self._position(), 1, 2, 3)

    def _position(self) -> Value:
        """Raster position of every slot, int `[B]`."""
        return self.graph.add(self.graph.mul(self.row, self.program.shape[1]), self.col)

    def placed(self, node: Node, like: Kind = "float") -> Value:
        if node in self.values:
            return self.graph.as_kind(self.values[node], like)
        table = self.graph.constant(node.attrs["value"].flatten(0, 1), like)
        return self.graph.gather(table, self._position(), 0)

    def source(self, node: Node) -> Value:
        return crossing(self.graph, self.prologue, node)

    def keys(self, edge: Edge) -> Value:
        node = edge.source
        if not node.pixel:
            return crossing_keys(self.graph, self.prologue, node)
        cache = self.layout.cache[node]
        if cache.inclusive and cache.writer == "step":
            return self._cache_result(node)
        return declare(self.graph, cache)

    def guard(self, node: Node, value: Value) -> Value:
        g, (top, left) = self.graph, self.program.guard[node]
        inside = g.both(g.binary("ge", self.row, top), g.binary("ge", self.col, left))
        inside = g.unsqueeze(inside, *range(1, 1 + len(node.channels))) if node.channels else inside
        return g.where(inside, value, self.program.border[node].to(node.dtype).expand(node.channels))

    def tapped(self, node: Node) -> Value:
        g, source = self.graph, node.inputs[0].source
        past = self._past(node)
        if node.op == "shift":
            return g.typed(self._shaped(self.pieces[node], source), source.dtype) if past else self.value(source)
        taps, bias, parts = node.attrs["taps"], node.attrs["bias"], []
        if node in g.scales and len(source.channels) == 1:
            return self._whole(node, source, past)
        if node.op == "linear" and not past and bias is not None and len(source.channels) == 1:
            return self.multiplied(node, self.value(source), taps[0, 0].T, bias, vector=True)
        if past:
            parts.append(self._weighted(node, source, self.pieces[node], [taps[o] for o in past]))
        if (0, 0) in taps:
            parts.append(self._here(node, source, taps[0, 0]))
        total = parts[0] if len(parts) == 1 else g.add(*parts)
        return total if bias is None else g.add(total, bias)

    def _whole(self, node: Node, source: Node, past: list[tuple[int, int]]) -> Value:
        """All taps as one product of int8 with a bias, 0 if need be: engines would join a product and what is added to
        it first, and then find no int8 in it."""
        g, taps = self.graph, node.attrs["taps"]
        here = [(0, 0)] if (0, 0) in taps else []
        cells = [*([self.pieces[node]] if past else []), *(self.value(source) for _ in here)]
        weight = torch.cat([taps[o].T for o in (*past, *here)])
        bias = node.attrs["bias"] if node.attrs["bias"] is not None else weight.new_zeros(weight.shape[1])
        return self.multiplied(node, g.concat(cells, 1), weight, bias, vector=True)

    def _here(self, node: Node, source: Node, tap: torch.Tensor) -> Value:
        if node.op == "lookup":
            table = self.graph.constant(tap)
            return self.graph.gather(table, self.value(source), 0)
        return self.multiplied(node, self.value(source), tap.T)

    def _weighted(self, node: Node, source: Node, cells: Value, taps: list[torch.Tensor]) -> Value:
        """Taps applied to gathered cells `[B, taps * C]`."""
        g = self.graph
        if len(source.channels) > 1:  # a layer over the last of several axes has one tap
            cells = g.reshape(cells, [0, *source.channels])
        if node.op == "lookup":
            return look_up(g, g.cast(cells, "int"), taps, 1)
        return self.multiplied(node, cells, torch.cat([tap.T for tap in taps]))

    def _cache_result(self, node: Node) -> Value:
        """The cache with this step's entry written."""
        g, cache = self.graph, self.layout.cache[node]
        heads, _, width = cache.shape
        update = g.reshape(self.value(node), [0, heads, 1, width])
        update, address = self._pooled(cache, update) if cache.pool else (update, self._position())
        return write(g, cache, update, address if cache.inclusive else g.add(address, self._drawn()))

    def _drawn(self) -> Value:
        """Zero, int `[B]`, that depends on the drawn pixel: added to an address, it keeps the write behind the draw.

        TensorRT fuses writes with what stands beside them and then fails on the order, unless all of them come last.
        """
        g, pixel = self.graph, self.pixel
        if self.program.pixel.channels:
            pixel = g.cast(g.squeeze(g.gather(pixel, [0], 1), 1), "int")
        return g.mod(pixel, 1)  # a mul by 0 TensorRT folds away

    def _pooled(self, cache: Cache, update: Value) -> tuple[Value, Value]:
        """The block's new maximum and its address; the block's first position starts it anew."""
        g, (py, px) = self.graph, cache.pool or (1, 1)
        heads, _, width = cache.shape
        row = g.mul(g.div(self.row, py), self.program.shape[1] // px)
        address = g.add(row, g.div(self.col, px))  # [B]
        pair = g.mul(g.unsqueeze(address, 1, 2), [0, 1])
        pair = g.add(pair, [[[head, 0] for head in range(heads)]])
        old = g.gather_cells(declare(g, cache), pair)  # [B, heads, d]
        old = g.reshape(old, [0, heads, 1, width])
        inside = g.add(g.mod(self.row, py), g.mod(self.col, px))
        first = g.unsqueeze(g.binary("eq", inside, 0), 1, 2, 3)
        return g.where(first, update, g.binary("max", old, update)), address

    def write_states(self) -> None:
        """The writes that end the step."""
        g = self.graph
        for canvas in self.layout.canvases:
            if canvas.writer == "step":
                update = self._update(canvas)
                address = g.add(row_start(g, canvas), self._column(canvas.every[1]))
                address = g.add(address, g.add(self._drawn(), canvas.left))
                g.output(f"{canvas.name}.out", write(g, canvas, update, address), ["B", *canvas.shape])
        for cache in self.layout.caches:
            if cache.writer == "step":
                g.output(f"{cache.name}.out", self._cache_result(cache.member), ["B", *cache.axes])
