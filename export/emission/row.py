"""The row graph: everything that rows above determine, for all columns of one row at once."""

from __future__ import annotations

import torch

from pixelsnail_infer.export.analysis.layout import Cache, Layout
from pixelsnail_infer.export.analysis.prologue import Prologue
from pixelsnail_infer.export.analysis.stack import Stacks
from pixelsnail_infer.export.analysis.stages import Program, Stage
from pixelsnail_infer.export.emission.canvas import blocks, declare, gather, row_start, scatter
from pixelsnail_infer.export.emission.emit import Scope
from pixelsnail_infer.export.emission.onnx_graph import GraphWriter
from pixelsnail_infer.export.fields import Edge, Node

__all__ = ["RowScope", "exported", "write_row"]


def exported(program: Program, stacks: Stacks) -> list[Node]:
    """Positional values of the row stage or before that the step reads: the row result, in this order.

    Values that the step uses as one stack come first and lie side by side.
    """
    found: dict[Node, None] = {node: None for row in stacks.rows for node in row}
    for node in program.of(Stage.BEFORE, Stage.AFTER):
        for edge in node.inputs:
            source = edge.source
            if edge.keys or source.frame is None or source.keys or program.stage[source] > Stage.ROW:
                continue
            found[source] = None
    return list(found)


def write_row(program: Program, layout: Layout, prologue: Prologue, writer: GraphWriter) -> None:
    """Fill `writer` with the row graph."""
    scope = RowScope(program, layout, prologue, writer)
    scope.emit(program.of(Stage.ROW))
    parts = [scope.flat(node) for node in exported(program, layout.stacks)]
    width = sum(_size(node) for node in exported(program, layout.stacks))
    if not parts:
        parts, width = [scope.nothing()], 1
    packed = writer.op("Concat", *parts, axis=2) if len(parts) > 1 else writer.op("Identity", parts[0])
    writer.output("row_result", packed, writer.precision, ["B", program.shape[1], width])
    scope.write_states()


def _size(node: Node) -> int:
    size = 1
    for channel in node.channels:
        size *= channel
    return size


class RowScope(Scope):
    """A line scope over the columns of one row."""

    lead = 2

    def __init__(self, program: Program, layout: Layout, prologue: Prologue, writer: GraphWriter) -> None:
        super().__init__(program, writer)
        self.layout, self.prologue = layout, prologue
        self.count = program.shape[1]
        self.row = writer.input("row", "int64", ["B"])

    def nothing(self) -> str:
        """A zero per slot and column, where the step needs no row result."""
        w = self.writer
        zero = w.cast(w.op("Mul", self.row, w.constant(0)), "float")
        column = w.op("Unsqueeze", zero, w.constant([1, 2]))
        return w.op("Add", column, w.constant(torch.zeros(1, self.count, 1)))

    def flat(self, node: Node) -> str:
        """The node as `[B, W, channels]` in the graph's precision."""
        w = self.writer
        value = self.placed(node) if node.op == "const" else self.value(node)
        if not node.dtype.is_floating_point:
            value = w.cast(value, "float")
        return value if len(node.channels) == 1 else w.op("Reshape", value, w.constant([0, 0, _size(node)]))

    def write_states(self) -> None:
        """Scatter what later rows read of this one."""
        w = self.writer
        for canvas in self.layout.canvases:
            if canvas.writer == "row":
                lines = [w.op("Unsqueeze", self.flat(member), w.constant([1])) for member in canvas.members]
                update = w.op("Concat", *lines, axis=1) if len(lines) > 1 else lines[0]
                address = w.op("Add", row_start(w, canvas), w.constant(canvas.left))
                result = scatter(w, canvas, update, address)
                w.output(f"{canvas.name}.out", result, w.precision, ["B", *canvas.shape])
        for cache in self.layout.caches:
            if cache.writer == "row":
                w.output(f"{cache.name}.out", self._cache_result(cache.member), w.precision, ["B", *cache.shape])

    def _cache_result(self, node: Node) -> str:
        w, cache = self.writer, self.layout.cache[node]
        heads, _, width = cache.shape
        value = w.op("Reshape", self.value(node), w.constant([0, 0, heads, width]))
        update = w.op("Transpose", value, perm=[0, 2, 1, 3])  # [B, heads, W, d]
        if cache.pool is not None:
            return self._pooled(cache, update)
        return scatter(w, cache, update, w.op("Mul", self.row, w.constant(self.count)))

    def _pooled(self, cache: Cache, update: str) -> str:
        """The row's maxima into the blocks that it belongs to; the first row of a block starts it anew."""
        w, (py, px), (heads, _, width) = self.writer, cache.pool or (1, 1), cache.shape
        count = self.count // px
        update = w.op("ReduceMax", w.op("Reshape", update, w.constant([0, heads, count, px, width])), w.constant([3]),
                      keepdims=0)  # [B, heads, W / px, d]
        start = w.op("Mul", w.op("Div", self.row, w.constant(py)), w.constant(count))  # [B]
        cells = w.op("Add", w.op("Unsqueeze", start, w.constant([1])), w.constant(torch.arange(count)[None]))
        first = w.op("Equal", w.op("Mod", self.row, w.constant(py)), w.constant(0))
        more = w.op("Max", blocks(w, cache, cells), update)
        update = w.op("Where", w.op("Unsqueeze", first, w.constant([1, 2, 3])), update, more)
        return scatter(w, cache, update, start)

    def positions(self, frame: tuple[int, int]) -> str:
        w = self.writer
        start = w.op("Mul", self.row, w.constant(self.count))
        start = w.op("Unsqueeze", start, w.constant([1, 2, 3]))
        return w.op("Add", start, w.constant(torch.arange(self.count).view(1, 1, -1, 1)))

    def placed(self, node: Node) -> str:
        return self.writer.op("Gather", self.writer.constant(node.attrs["value"]), self.row, axis=0)

    def source(self, node: Node) -> str:
        if node.op == "upsample":
            return self._upsampled(node)
        value = self.prologue.value(self.writer, node)
        return self._prologue_row(value, 0) if node.frame is not None else value

    def _prologue_row(self, value: str, dy: int, height: int | None = None, factor: int = 1) -> str:
        """Row `(row + dy) // factor` of a prologue map, clamped into it: `[B, w, *channels]`."""
        w, row = self.writer, self.row
        if height is not None:
            row = w.op("Add", row, w.constant(dy))
            row = w.op("Min", w.op("Max", row, w.constant(0)), w.constant(height - 1))
        if factor > 1:
            row = w.op("Div", row, w.constant(factor))
        return w.op("GatherND", value, w.op("Unsqueeze", row, w.constant([1])), batch_dims=1)

    def _upsampled(self, node: Node) -> str:
        """Nearest-neighbour rows and columns, read from the smaller map."""
        w, (fy, fx) = self.writer, node.attrs["factors"]
        small = self._prologue_row(self.prologue.value(w, node.inputs[0].source), 0, None, fy)
        return w.op("Gather", small, w.constant(torch.arange(self.count) // fx), axis=1)

    def keys(self, edge: Edge) -> str:
        node = edge.source
        if node.pixel:
            cache = self.layout.cache[node]
            if cache.writer == "row" and cache.inclusive:
                return self._cache_result(node)
            return declare(self.writer, cache)
        return self.prologue.keys(self.writer, node)

    def guard(self, node: Node, value: str) -> str:
        w, (top, left) = self.writer, self.program.guard[node]
        rank = len(node.channels)
        inside = w.op("GreaterOrEqual", self.row, w.constant(top))
        inside = w.op("Unsqueeze", inside, w.constant(list(range(1, 2 + rank))))
        columns = (torch.arange(self.count) >= left).view(1, -1, *(1,) * rank)
        mask = w.op("And", inside, w.constant(columns))
        border = w.constant(self.program.border[node].to(node.dtype).expand(node.channels))
        return w.where(mask, value, border, node.dtype)

    def tapped(self, node: Node) -> str:
        """Taps in the same row read the row's own values; taps above read a canvas or a condition map."""
        if node.op == "shift":
            ((dy, dx),) = [(node.inputs[0].dy, node.inputs[0].dx)]
            patch = self._patches(node, [(dy, dx)])
            return self.writer.op("Squeeze", patch, self.writer.constant([2]))
        taps = node.attrs["taps"]
        groups = [[o for o in taps if o[0] == 0], [o for o in taps if o[0] < 0]]
        parts = [self._sum(node, self._patches(node, group), group) for group in groups if group]
        total = parts[0] if len(parts) == 1 else self.writer.op("Add", *parts)
        bias = node.attrs["bias"]
        return total if bias is None else self.writer.op("Add", total, self.writer.constant(bias))

    def _sum(self, node: Node, patch: str, offsets: list[tuple[int, int]]) -> str:
        """Taps applied to patches `[B, W, taps, ...]`: `[B, W, out]`."""
        w, taps = self.writer, node.attrs["taps"]
        if node.op == "lookup":
            return look_up(w, patch, [taps[o] for o in offsets], 2)
        weight = torch.cat([taps[o].T for o in offsets])  # [taps * in, out]
        lead = node.inputs[0].source.channels[:-1]  # of a layer over the last of several axes, which has one tap
        return w.op("MatMul", w.op("Reshape", patch, w.constant([0, 0, *lead, weight.shape[0]])), w.constant(weight))

    def _patches(self, node: Node, offsets: list[tuple[int, int]]) -> str:
        """The source at every offset, `[B, W, taps, *channels]`."""
        source = node.inputs[0].source
        if not source.pixel:
            return self._condition_patches(node, offsets)
        if all(dy == 0 for dy, _ in offsets) and self.program.stage[source] == Stage.ROW:
            return self._own_patches(source, offsets)
        w, (canvas, member) = self.writer, self.layout.place[source]
        rows = [w.op("Unsqueeze", row_start(w, canvas, dy), w.constant([1])) for dy, _ in offsets]
        start = w.op("Concat", *rows, axis=1) if len(rows) > 1 else rows[0]  # [B, taps]
        start = w.op("Unsqueeze", start, w.constant([1]))  # [B, 1, taps]
        columns = torch.tensor([[canvas.left + j + dx for _, dx in offsets] for j in range(self.count)])
        address = w.op("Add", start, w.constant(columns[None]))
        patch = w.typed(gather(w, canvas, address, torch.full((1,), member)), source.dtype)
        if len(source.channels) != 1:
            patch = w.op("Reshape", patch, w.constant([0, 0, 0, *source.channels]))
        return patch

    def _own_patches(self, source: Node, offsets: list[tuple[int, int]]) -> str:
        """Shifted copies of a row that this graph holds whole."""
        w, value, border = self.writer, self.value(source), self.program.border.get(source)
        left, right = max(0, *(-dx for _, dx in offsets)), max(0, *(dx for _, dx in offsets))
        if left or right:
            fill = torch.zeros((), dtype=source.dtype) if border is None else border.to(source.dtype)
            value = padded(w, value, fill.expand(source.channels), left, right)
        parts = []
        for _, dx in offsets:
            piece = w.op("Slice", value, w.constant([left + dx]), w.constant([left + dx + self.count]), w.constant([1]))
            parts.append(w.op("Unsqueeze", piece, w.constant([2])))
        return w.op("Concat", *parts, axis=2) if len(parts) > 1 else parts[0]

    def _condition_patches(self, node: Node, offsets: list[tuple[int, int]]) -> str:
        """A condition map's neighbouring row, border outside (shift nodes only: one offset)."""
        w, (edge,) = self.writer, node.inputs
        source, ((dy, dx),) = edge.source, offsets
        height, width = source.frame  # type: ignore[misc]
        rank = len(source.channels)
        fill = torch.zeros((), dtype=source.dtype) if edge.border is None else edge.border.to(source.dtype)
        fill = fill.expand(source.channels)
        line = self._prologue_row(self.prologue.value(w, source), dy, height) if dy or height != self.program.shape[0] \
            else self.value(source)
        left, right = max(0, -dx), max(0, dx + self.count - width)
        line = padded(w, line, fill, left, right)
        line = w.op("Slice", line, w.constant([left + dx]), w.constant([left + dx + self.count]), w.constant([1]))
        moved = w.op("Add", self.row, w.constant(dy))
        inside = w.op("And", w.op("GreaterOrEqual", moved, w.constant(0)), w.op("Less", moved, w.constant(height)))
        inside = w.op("Unsqueeze", inside, w.constant(list(range(1, 2 + rank))))
        return w.op("Unsqueeze", w.where(inside, line, w.constant(fill), source.dtype), w.constant([2]))


def padded(writer: GraphWriter, value: str, border: torch.Tensor, left: int, right: int) -> str:
    """`value [B, W, *channels]` with border columns on both sides."""
    if not left and not right:
        return value
    lead = writer.op("Shape", value, start=0, end=1)
    fill = border.reshape(1, 1, *border.shape)
    parts = []
    for columns in (left, right):
        shape = writer.op("Concat", lead, writer.constant([columns, *border.shape]), axis=0)
        parts.append(writer.op("Expand", writer.constant(fill), shape) if columns else "")
    return writer.op("Concat", *(p for p in (parts[0], value, parts[1]) if p), axis=1)


def look_up(writer: GraphWriter, codes: str, tables: list[torch.Tensor], axis: int) -> str:
    """Sum over `axis` of the rows that `codes [..., taps]` pick, a table `[levels + 1, out]` per tap."""
    levels = tables[0].shape[0]
    stacked = torch.cat(tables)
    index = codes
    if len(tables) > 1:
        index = writer.op("Add", codes, writer.constant(torch.arange(len(tables)) * levels))
    rows = writer.op("Gather", writer.constant(stacked), index, axis=0)
    return writer.op("ReduceSum", rows, writer.constant([axis]), keepdims=0)
