"""The row graph: everything that rows above determine, for all columns of one row at once."""

from __future__ import annotations

import torch

from pixelsnail_infer.export.analysis.layout import Cache, Layout
from pixelsnail_infer.export.analysis.prologue import Prologue
from pixelsnail_infer.export.analysis.row_forms import PLAIN, RowProduct, tap_groups
from pixelsnail_infer.export.analysis.stack import Stacks
from pixelsnail_infer.export.analysis.stages import Program, Stage
from pixelsnail_infer.export.analysis.widths import is_exact
from pixelsnail_infer.export.analysis.winograd import Winograd
from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.caching import CachingScope
from pixelsnail_infer.export.emission.canvas import blocks, declare, gather, kept_as, row_start, write
from pixelsnail_infer.export.emission.crossing import crossing, crossing_keys
from pixelsnail_infer.export.emission.graph import Kind, Value
from pixelsnail_infer.export.emission.winograd import emit_winograd
from pixelsnail_infer.export.fields import Edge, Node

__all__ = ["RowScope", "emit_row", "exported", "row_result_as"]


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
            if node.op == "shift" and not source.pixel:  # a lane picks its own
                continue
            found[source] = None
    return list(found)


def row_result_as(g: GraphBuilder, values: list[Node]) -> Kind:
    """What the row result holds numbers as."""
    return g.wide if is_exact(values) else "float"


def emit_row(program: Program, layout: Layout, prologue: Prologue, graph: GraphBuilder, form: str = PLAIN) -> None:
    """Fill `graph` with the row graph. `form`: of its products, one of `ROW_FORMS`."""
    scope = RowScope(program, layout, prologue, graph, form)
    scope.emit(program.of(Stage.ROW))
    values = exported(program, layout.stacks)
    parts = [scope.flat(node, row_result_as(graph, values)) for node in values]
    width = sum(_size(node) for node in values)
    if not parts:
        parts, width = [scope.nothing()], 1
    packed = graph.concat(parts, 2) if len(parts) > 1 else graph.copy(parts[0])
    graph.output("row_result", packed, ["B", program.shape[1], width])
    scope.write_states()


def _size(node: Node) -> int:
    size = 1
    for channel in node.channels:
        size *= channel
    return size


class RowScope(CachingScope):
    """A line scope over the columns of one row."""

    lead = 2

    def __init__(self, program: Program, layout: Layout, prologue: Prologue, graph: GraphBuilder, form: str) -> None:
        super().__init__(program, layout, prologue, graph)
        self.form = form
        self.count = program.shape[1]
        self.row = graph.input("row", "int", ["B"])

    def nothing(self) -> Value:
        """A zero per slot and column, where the step needs no row result."""
        g = self.graph
        zero = g.cast(g.mul(self.row, 0), "float")
        return g.add(g.unsqueeze(zero, 1, 2), torch.zeros(1, self.count, 1))

    def flat(self, node: Node, kind: Kind) -> Value:
        """The node as `[B, W, channels]`, floating-point numbers of this kind."""
        value = self.graph.as_float(self.placed(node, kind) if node.op == "const" else self.value(node), kind)
        return value if len(node.channels) == 1 else self.graph.reshape(value, [0, 0, _size(node)])

    def write_states(self) -> None:
        """The writes of what later rows read of this one."""
        g = self.graph
        for canvas in self.layout.canvases:
            if canvas.writer == "row":
                update = g.concat([g.unsqueeze(self.flat(member, kept_as(g, canvas)), 1)
                                   for member in canvas.members], 1)
                result = write(g, canvas, update, g.add(row_start(g, canvas), canvas.left))
                g.output(f"{canvas.name}.out", result, ["B", *canvas.shape])
        for cache in self.layout.caches:
            if cache.writer == "row":
                g.output(f"{cache.name}.out", self._cache_result(cache.member), ["B", *cache.axes])

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

    def placed(self, node: Node, like: Kind = "float") -> Value:
        return self.graph.gather(self.graph.constant(node.attrs["value"], like), self.row, 0)

    def source(self, node: Node) -> Value:
        if node.op == "upsample":
            return self._upsampled(node)
        value = crossing(self.graph, self.prologue, node)
        return self._prologue_row(value, 0) if node.frame is not None else value

    def _prologue_row(self, value: Value, dy: int, height: int | None = None, factor: int = 1) -> Value:
        """Row `(row + dy) // factor` of a prologue map, clamped into it: `[B, w, *channels]`."""
        g, row = self.graph, self.row
        if height is not None:
            row = g.binary("min", g.binary("max", g.add(row, dy), 0), height - 1)
        if factor > 1:
            row = g.div(row, factor)
        return g.gather_cells(value, g.unsqueeze(row, 1))

    def _upsampled(self, node: Node) -> Value:
        """Nearest-neighbour rows and columns, read from the smaller map."""
        g, (fy, fx) = self.graph, node.attrs["factors"]
        small = self._prologue_row(crossing(g, self.prologue, node.inputs[0].source), 0, None, fy)
        return g.gather(small, torch.arange(self.count) // fx, 1)

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
        columns = (torch.arange(self.count) >= left).view(1, -1, *(1,) * rank)
        mask = g.both(inside, columns)
        return g.where(mask, value, self.program.border[node].to(node.dtype).expand(node.channels))

    def tapped(self, node: Node) -> Value:
        """Taps in the same row read the row's own values; taps above read a canvas or a condition map."""
        g = self.graph
        if node.op == "shift":
            ((dy, dx),) = [(node.inputs[0].dy, node.inputs[0].dx)]
            return g.squeeze(self._patches(node, [(dy, dx)]), 2)
        parts = [self._sum(node, group) for group in tap_groups(node)]
        total = parts[0] if len(parts) == 1 else g.add(*parts)
        bias = node.attrs["bias"]
        return total if bias is None else g.add(total, bias)

    def _sum(self, node: Node, offsets: list[tuple[int, int]]) -> Value:
        """Taps applied to what they read: `[B, W, out]`."""
        g, taps, one = self.graph, node.attrs["taps"], RowProduct(node, tuple(offsets), self.count)
        if (form := one.form(self.form)) is not None:
            return emit_winograd(g, form, self._tiles(one, form), one.weights(form))
        patch = self._patches(node, offsets)
        if node.op == "lookup":
            return look_up(g, patch, [taps[o] for o in offsets], 2)
        weight = torch.cat([taps[o].T for o in offsets])  # [taps * in, out]
        lead = node.inputs[0].source.channels[:-1]  # of a layer over the last of several axes, which has one tap
        patch = g.reshape(patch, [0, 0, *lead, weight.shape[0]])
        return self.multiplied(node, patch, weight)

    def _patches(self, node: Node, offsets: list[tuple[int, int]]) -> Value:
        """The source at every offset, `[B, W, taps, *channels]`."""
        source = node.inputs[0].source
        if not source.pixel:
            return self._condition_patches(node, offsets)
        if all(dy == 0 for dy, _ in offsets) and self.program.stage[source] == Stage.ROW:
            return self._own_patches(source, offsets)
        g, (canvas, member) = self.graph, self.layout.place[source]
        start = g.concat([g.unsqueeze(row_start(g, canvas, dy), 1) for dy, _ in offsets], 1)  # [B, taps]
        start = g.unsqueeze(start, 1)  # [B, 1, taps]
        columns = torch.tensor([[canvas.left + j + dx for _, dx in offsets] for j in range(self.count)])
        address = g.add(start, columns[None])
        patch = g.typed(gather(g, canvas, address, torch.full((1,), member)), source.dtype)
        return patch if len(source.channels) == 1 else g.reshape(patch, [0, 0, 0, *source.channels])

    def _own_patches(self, source: Node, offsets: list[tuple[int, int]]) -> Value:
        """Shifted copies of a row that this graph holds whole."""
        g, (value, left) = self.graph, self._own_row(source, [dx for _, dx in offsets])
        parts = [g.unsqueeze(g.slice(value, left + dx, left + dx + self.count, 1), 2) for _, dx in offsets]
        return g.concat(parts, 2)

    def _own_row(self, source: Node, columns: list[int]) -> tuple[Value, int]:
        """A row that this graph holds whole, with what stands beside it as far as it is read at these `columns`; and
        how many are left of it."""
        value, left, right = self.value(source), max(0, *(-dx for dx in columns)), max(0, *columns)
        if left or right:
            value = self.graph.border(value, left, right, _fill(source, self.program.border.get(source)))
        return value, left

    def _tiles(self, one: RowProduct, form: Winograd) -> Value:
        """What the tiles of a product read, `[B, points, tiles, rows * channels]`."""
        g, source, columns = self.graph, one.node.inputs[0].source, form.columns + one.first
        if one.rows == [0]:
            value, left = self._own_row(source, [one.first, one.first + form.taps - 1])
            return g.gather(value, columns + left, 1)
        canvas, member = self.layout.place[source]
        start = g.concat([g.unsqueeze(row_start(g, canvas, dy), 1) for dy in one.rows], 1)  # [B, rows]
        address = g.add(g.unsqueeze(start, 1, 2), (columns + canvas.left)[None, :, :, None])
        cells = g.as_kind(gather(g, canvas, address, torch.full((1,), member)), "float")
        return g.reshape(cells, [0, 0, 0, len(one.rows) * source.channels[0]])

    def _condition_patches(self, node: Node, offsets: list[tuple[int, int]]) -> Value:
        """A condition map's neighbouring row, border outside (shift nodes only: one offset)."""
        g, (edge,) = self.graph, node.inputs
        source, ((dy, dx),) = edge.source, offsets
        height, width = source.frame  # type: ignore[misc]
        fill = _fill(source, edge.border)
        line = self._prologue_row(crossing(g, self.prologue, source), dy, height) \
            if dy or height != self.program.shape[0] else self.value(source)
        left, right = max(0, -dx), max(0, dx + self.count - width)
        if left or right:
            line = g.border(line, left, right, fill)
        line = g.slice(line, left + dx, left + dx + self.count, 1)
        moved = g.add(self.row, dy)
        inside = g.both(g.binary("ge", moved, 0), g.binary("lt", moved, height))
        inside = g.unsqueeze(inside, *range(1, 2 + len(source.channels)))
        return g.unsqueeze(g.where(inside, line, fill), 2)


def _fill(source: Node, border: torch.Tensor | None) -> torch.Tensor:
    """What stands outside of a value, `[*channels]`."""
    fill = torch.zeros((), dtype=source.dtype) if border is None else border.to(source.dtype)
    return fill.expand(source.channels)


def look_up(g: GraphBuilder, codes: Value, tables: list[torch.Tensor], axis: int) -> Value:
    """Sum over `axis` of the rows that `codes [..., taps]` pick, a table `[levels + 1, out]` per tap."""
    levels = tables[0].shape[0]
    index = codes
    if len(tables) > 1:
        index = g.add(codes, torch.arange(len(tables)) * levels)
    return g.reduce("sum", g.gather(torch.cat(tables), index, 0), axis)
