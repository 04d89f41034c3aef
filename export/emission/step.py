"""The step graph: one pixel of every slot. A part before the draw, the draw, and what needs the drawn pixel."""

from __future__ import annotations

import math

import torch

from pixelsnail_infer.distributions import Distribution
from pixelsnail_infer.export.analysis.layout import Cache, Canvas, Layout
from pixelsnail_infer.export.analysis.prologue import Prologue
from pixelsnail_infer.export.analysis.stack import Stack
from pixelsnail_infer.export.analysis.stages import Program, Stage
from pixelsnail_infer.export.emission.canvas import declare, gather, row_start, scatter
from pixelsnail_infer.export.emission.draw import pixel_dtype, write_draw
from pixelsnail_infer.export.emission.emit import Scope
from pixelsnail_infer.export.emission.maps import emit_map
from pixelsnail_infer.export.emission.onnx_graph import GraphWriter
from pixelsnail_infer.export.emission.row import exported, look_up
from pixelsnail_infer.export.fields import Edge, Node, reads

__all__ = ["write_step"]


def write_step(program: Program, layout: Layout, prologue: Prologue, writer: GraphWriter, distribution: Distribution,
               filtered: bool = False) -> None:
    """Fill `writer` with the step graph, with top-k and top-p where `filtered`."""
    scope = StepScope(program, layout, prologue, writer)
    scope.emit(program.of(Stage.BEFORE))
    logits = scope.value(program.output)
    writer.output("logits", writer.op("Identity", logits), writer.precision, ["B", distribution.parameters])
    writer.prefix = "draw"
    pixel = write_draw(writer, logits, scope.col, program.shape[1], distribution, filtered)
    writer.output("pixel", pixel, pixel_dtype(writer, distribution), ["B", *distribution.pixel_shape])
    scope.values[program.pixel] = "pixel"
    scope.emit(program.of(Stage.AFTER))
    scope.write_states()


class StepScope(Scope):
    """A point scope: `[B, *channels]`."""

    lead = 1
    count = 1

    def __init__(self, program: Program, layout: Layout, prologue: Prologue, writer: GraphWriter) -> None:
        super().__init__(program, writer)
        self.layout, self.prologue = layout, prologue
        self.row, self.col = writer.input("row", "int64", ["B"]), writer.input("col", "int64", [1])
        self.pieces: dict[Node, str] = {}
        self.stacks = layout.stacks
        self.stacked: dict[int, str] = {}  # by id of a stack, or of a list of row values
        self._unpack()
        self._gather()

    def _unpack(self) -> None:
        """The row result's column, cut into its values; those of a stack stay together."""
        w, rows = self.writer, self.stacks.rows
        singles = exported(self.program, self.stacks)[sum(len(row) for row in rows):]
        sizes = [sum(math.prod(n.channels) for n in row) for row in rows] + [math.prod(n.channels) for n in singles]
        result = w.input("row_result", w.precision, ["B", self.program.shape[1], max(sum(sizes), 1)])
        if not sizes:
            return
        packed = w.op("Squeeze", w.op("Gather", result, self.col, axis=1), w.constant([1]))
        parts = w.ops("Split", len(sizes), packed, w.constant(sizes), axis=1) if len(sizes) > 1 else [packed]
        for row, part in zip(rows, parts, strict=False):
            self.stacked[id(row)] = part
        for node, part in zip(singles, parts[len(rows):], strict=True):
            if len(node.channels) != 1:
                part = w.op("Reshape", part, w.constant([0, *node.channels]))
            self.values[node] = w.typed(part, node.dtype)

    def _gather(self) -> None:
        """All canvas cells that the step reads: one gather per canvas, cut per reading node."""
        w = self.writer
        for canvas in self.layout.canvases:
            readers = [n for n in self.program.of(Stage.BEFORE, Stage.AFTER)
                       if n.op in ("linear", "lookup", "shift") and n.frame is not None and self._past(n)
                       and self.layout.place.get(n.inputs[0].source, (None,))[0] is canvas]
            if not readers:
                continue
            cells = [(self.layout.place[n.inputs[0].source][1], dx) for n in readers for _, dx in self._past(n)]
            address = w.op("Add", row_start(w, canvas), self.col)  # [B]
            address = w.op("Unsqueeze", address, w.constant([1]))
            address = w.op("Add", address, w.constant([[canvas.left + dx for _, dx in cells]]))  # [B, cells]
            values = gather(w, canvas, address, torch.tensor([m for m, _ in cells]))  # [B, cells, C]
            sizes = [len(self._past(n)) * canvas.channels for n in readers]
            values = w.op("Reshape", values, w.constant([0, sum(sizes)]))
            parts = w.ops("Split", len(readers), values, w.constant(sizes), axis=1) if len(readers) > 1 else [values]
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

    def value(self, node: Node) -> str:
        if node in self.stacks.of and node not in self.values:
            stack, _ = self.stacks.of[node]
            size = math.prod(node.channels)
            parts = self.writer.ops("Split", len(stack.members), self._stack(stack),
                                    self.writer.constant([size] * len(stack.members)), axis=1)
            for member, part in zip(stack.members, parts, strict=True):
                self.values[member] = part if len(member.channels) == 1 else \
                    self.writer.op("Reshape", part, self.writer.constant([0, *member.channels]))
        return super().value(node)

    def _stack(self, stack: Stack) -> str:
        """All members side by side, `[B, members * channels]`."""
        if id(stack) not in self.stacked:
            self.stacked[id(stack)] = self._stack_members(stack)
        return self.stacked[id(stack)]

    def _stack_members(self, stack: Stack) -> str:
        w, node, count = self.writer, stack.members[0], len(stack.members)
        if not stack.operands:
            return w.op("Concat", *(self.tapped(member) for member in stack.members), axis=1)
        args = [self._stack(o) if isinstance(o, Stack) else self.stacked[id(o)] for o in stack.operands]
        if node.op == "map":
            return emit_map(w, node.attrs["fn"], args, node.attrs.get("params", {}), node)
        source = node.inputs[0].source.channels
        apart = w.op("Reshape", args[0], w.constant([0, count, *source]))
        piece = self.cut(node, apart, 2)
        return w.op("Reshape", piece, w.constant([0, count * math.prod(node.channels)]))

    def positions(self, frame: tuple[int, int]) -> str:
        return self.writer.op("Unsqueeze", self._position(), self.writer.constant([1, 2, 3]))

    def _position(self) -> str:
        """Raster position of every slot, int64 `[B]`."""
        w = self.writer
        return w.op("Add", w.op("Mul", self.row, w.constant(self.program.shape[1])), self.col)

    def placed(self, node: Node) -> str:
        if node in self.values:
            return self.values[node]
        table = node.attrs["value"].flatten(0, 1)
        return self.writer.op("Gather", self.writer.constant(table), self._position(), axis=0)

    def source(self, node: Node) -> str:
        return self.prologue.value(self.writer, node)

    def keys(self, edge: Edge) -> str:
        node = edge.source
        if not node.pixel:
            return self.prologue.keys(self.writer, node)
        cache = self.layout.cache[node]
        if cache.inclusive and cache.writer == "step":
            return self._cache_result(node)
        return declare(self.writer, cache)

    def guard(self, node: Node, value: str) -> str:
        w, (top, left) = self.writer, self.program.guard[node]
        inside = w.op("And", w.op("GreaterOrEqual", self.row, w.constant(top)),
                      w.op("GreaterOrEqual", self.col, w.constant(left)))
        rank = len(node.channels)
        inside = w.op("Unsqueeze", inside, w.constant(list(range(1, 1 + rank)))) if rank else inside
        border = w.constant(self.program.border[node].to(node.dtype).expand(node.channels))
        return w.where(inside, value, border, node.dtype)

    def tapped(self, node: Node) -> str:
        w, source = self.writer, node.inputs[0].source
        past = self._past(node)
        if node.op == "shift":
            return self._shifted(node, source) if past else self.value(source)
        taps, bias, parts = node.attrs["taps"], node.attrs["bias"], []
        if node.op == "linear" and not past and bias is not None and len(source.channels) == 1:
            return self.dense(self.value(source), taps[0, 0].T, bias, vector=True)
        if past:
            parts.append(self._weighted(node, source, self.pieces[node], [taps[o] for o in past]))
        if (0, 0) in taps:
            parts.append(self._here(node, source, taps[0, 0]))
        total = parts[0] if len(parts) == 1 else w.op("Add", *parts)
        return total if bias is None else w.op("Add", total, w.constant(bias))

    def _here(self, node: Node, source: Node, tap: torch.Tensor) -> str:
        if node.op == "lookup":
            return self.writer.op("Gather", self.writer.constant(tap), self.value(source), axis=0)
        return self.dense(self.value(source), tap.T, None)

    def _weighted(self, node: Node, source: Node, cells: str, taps: list[torch.Tensor]) -> str:
        """Taps applied to gathered cells `[B, taps * C]`."""
        w = self.writer
        if len(source.channels) > 1:  # a layer over the last of several axes has one tap
            cells = w.op("Reshape", cells, w.constant([0, *source.channels]))
        if node.op == "lookup":
            return look_up(w, w.cast(cells, "int64"), taps, 1)
        return w.op("MatMul", cells, w.constant(torch.cat([tap.T for tap in taps])))

    def _shifted(self, node: Node, source: Node) -> str:
        w = self.writer
        value = self.pieces[node] if len(source.channels) == 1 else \
            w.op("Reshape", self.pieces[node], w.constant([0, *source.channels]))
        return w.typed(value, source.dtype)

    def _cache_result(self, node: Node) -> str:
        """The cache with this step's entry written."""
        w, cache = self.writer, self.layout.cache[node]
        heads, _, width = cache.shape
        update = w.op("Reshape", self.value(node), w.constant([0, heads, 1, width]))
        update, address = self._pooled(cache, update) if cache.pool else (update, self._position())
        return scatter(w, cache, update, address if cache.inclusive else w.op("Add", address, self._drawn()))

    def _drawn(self) -> str:
        """Zero, int64 `[B]`, that depends on the drawn pixel: added to an address, it keeps the write behind the draw.

        TensorRT fuses writes with what stands beside them and then fails on the order, unless all of them come last.
        """
        w, pixel = self.writer, "pixel"
        if self.program.pixel.channels:
            first = w.op("Squeeze", w.op("Gather", pixel, w.constant([0]), axis=1), w.constant([1]))
            pixel = w.cast(first, "int64")
        return w.op("Mod", pixel, w.constant(1))  # a Mul by 0 TensorRT folds away

    def _pooled(self, cache: Cache, update: str) -> tuple[str, str]:
        """The block's new maximum and its address; the block's first position starts it anew."""
        w, (py, px) = self.writer, cache.pool or (1, 1)
        heads, _, width = cache.shape
        blocks = w.op("Mul", w.op("Div", self.row, w.constant(py)), w.constant(self.program.shape[1] // px))
        address = w.op("Add", blocks, w.op("Div", self.col, w.constant(px)))  # [B]
        cell = w.op("Unsqueeze", address, w.constant([1, 2]))
        pair = w.op("Add", w.op("Mul", cell, w.constant([0, 1])), w.constant([[[head, 0] for head in range(heads)]]))
        old = w.op("GatherND", declare(w, cache), pair, batch_dims=1)  # [B, heads, d]
        old = w.op("Reshape", old, w.constant([0, heads, 1, width]))
        inside = w.op("Add", w.op("Mod", self.row, w.constant(py)), w.op("Mod", self.col, w.constant(px)))
        first = w.op("Unsqueeze", w.op("Equal", inside, w.constant(0)), w.constant([1, 2, 3]))
        return w.op("Where", first, update, w.op("Max", old, update)), address

    def write_states(self) -> None:
        """The scatters that end the step."""
        w = self.writer
        for canvas in self.layout.canvases:
            if canvas.writer == "step":
                update = self._update(canvas)
                address = w.op("Add", row_start(w, canvas), self.col)
                address = w.op("Add", address, w.op("Add", self._drawn(), w.constant(canvas.left)))
                result = scatter(w, canvas, update, address)
                w.output(f"{canvas.name}.out", result, w.precision, ["B", *canvas.shape])
        for cache in self.layout.caches:
            if cache.writer == "step":
                w.output(f"{cache.name}.out", self._cache_result(cache.member), w.precision, ["B", *cache.shape])

    def _update(self, canvas: Canvas) -> str:
        """This position's values of all members, `[B, members, 1, C]`."""
        w, flat, whole = self.writer, [], set[int]()
        for member in canvas.members:
            stack = self.stacks.of.get(member, (None, 0))[0]
            if stack is not None and self._together(canvas, stack):
                if id(stack) not in whole:
                    flat.append(self._stack(stack))
                whole.add(id(stack))
                continue
            value = self.value(member)
            if not member.dtype.is_floating_point:
                value = w.cast(value, "float")
            if len(member.channels) != 1:
                value = w.op("Reshape", value, w.constant([0, canvas.channels]))
            flat.append(value)
        joined = w.op("Concat", *flat, axis=1) if len(flat) > 1 else flat[0]
        return w.op("Reshape", joined, w.constant([0, len(canvas.members), 1, canvas.channels]))

    def _together(self, canvas: Canvas, stack: Stack) -> bool:
        """Whether a stack's members stand side by side on a canvas."""
        members = list(canvas.members)
        if any(m not in members for m in stack.members):
            return False
        start = members.index(stack.members[0])
        return members[start:start + len(stack.members)] == stack.members
