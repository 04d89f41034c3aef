"""What the row graph reads for all columns of its row at once: rows above on canvases, its own row, condition maps."""

from __future__ import annotations

import torch

from pixelsnail_infer.export.analysis.layout import Layout
from pixelsnail_infer.export.analysis.prologue import Prologue
from pixelsnail_infer.export.analysis.row_forms import RowProduct, tap_groups
from pixelsnail_infer.export.analysis.stages import Program, Stage
from pixelsnail_infer.export.analysis.winograd import Winograd
from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.caching import CachingScope
from pixelsnail_infer.export.emission.canvas import gather, row_start
from pixelsnail_infer.export.emission.crossing import crossing
from pixelsnail_infer.export.emission.graph import Kind, Value
from pixelsnail_infer.export.emission.winograd import emit_winograd
from pixelsnail_infer.export.fields import Node, Offset

__all__ = ["RowReads", "look_up"]


class RowReads(CachingScope):
    """A line scope over the columns of one row; values of a stride have a column for every cell."""

    lead = 2

    def __init__(self, program: Program, layout: Layout, prologue: Prologue, graph: GraphBuilder, form: str) -> None:
        super().__init__(program, layout, prologue, graph)
        self.form = form
        self.count = program.shape[1]
        self.row = graph.input("row", "int", ["B"])

    def columns(self, node: Node) -> int:
        """How many columns of a row the node has."""
        return self.count // node.stride[1]

    def row_of(self, node: Node) -> Value:
        """The row of cells in which the slots are, int `[B]`."""
        return self.row if node.stride[0] == 1 else self.graph.div(self.row, node.stride[0])

    def placed(self, node: Node, like: Kind = "float") -> Value:
        return self.graph.gather(self.graph.constant(node.attrs["value"], like), self.row_of(node), 0)

    def source(self, node: Node) -> Value:
        if node.op == "upsample" and node not in self.prologue.crossing:
            return self._upsampled(node)
        value = crossing(self.graph, self.prologue, node)
        return self._prologue_row(value, self.row_of(node)) if node.frame is not None else value

    def _prologue_row(self, value: Value, row: Value) -> Value:
        """Row `row [B]` of a prologue map: `[B, w, *channels]`."""
        return self.graph.gather_cells(value, self.graph.unsqueeze(row, 1))

    def _upsampled(self, node: Node) -> Value:
        """Nearest-neighbour rows and columns, read from the smaller map."""
        g, (fy, fx) = self.graph, node.attrs["factors"]
        value, row = crossing(g, self.prologue, node.inputs[0].source), self.row_of(node)
        small = self._prologue_row(value, g.div(row, fy) if fy > 1 else row)
        return g.gather(small, torch.arange(self.columns(node)) // fx, 1)

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
        g, taps, one = self.graph, node.attrs["taps"], RowProduct(node, tuple(offsets), self.columns(node))
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
            return self._own_patches(node, source, offsets)
        g, (canvas, member) = self.graph, self.layout.place[source]
        start = g.concat([g.unsqueeze(row_start(g, canvas, dy), 1) for dy, _ in offsets], 1)  # [B, taps]
        start = g.unsqueeze(start, 1)  # [B, 1, taps]
        address = g.add(start, (_columns(node, source, offsets, self.columns(node)) + canvas.left)[None])
        patch = g.typed(gather(g, canvas, address, torch.full((1,), member)), source.dtype)
        return patch if len(source.channels) == 1 else g.reshape(patch, [0, 0, 0, *source.channels])

    def _own_patches(self, node: Node, source: Node, offsets: list[Offset]) -> Value:
        """Shifted copies of a row that this graph holds whole; of a finer one every so manieth column."""
        g, count, shifts = self.graph, self.columns(node), [dx // source.stride[1] for _, dx in offsets]
        value, left = self._own_row(source, shifts)
        if node.stride[1] != source.stride[1]:
            return g.gather(value, _columns(node, source, offsets, count) + left, 1)
        parts = [g.unsqueeze(g.slice(value, left + dx, left + dx + count, 1), 2) for dx in shifts]
        return g.concat(parts, 2)

    def _own_row(self, source: Node, columns: list[int]) -> tuple[Value, int]:
        """A row that this graph holds whole, with what stands beside it as far as it is read these `columns` away, and
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
        source, ((dy, dx),), count = edge.source, offsets, self.columns(node)
        (height, width), (sy, sx), fill = source.frame, source.stride, _fill(source, edge.border)  # type: ignore[misc]
        line = self._neighbour(source, dy, height) if dy or height * sy != self.program.shape[0] else self.value(source)
        dx, factor = dx // sx, node.stride[1] // sx
        left, right = max(0, -dx), max(0, dx + count * factor - width)
        if left or right:
            line = g.border(line, left, right, fill)
        line = g.slice(line, left + dx, left + dx + count, 1) if factor == 1 else \
            g.gather(line, torch.arange(count) * factor + left + dx, 1)
        moved = g.add(self.row, dy)
        inside = g.both(g.binary("ge", moved, 0), g.binary("lt", moved, height * sy))
        inside = g.unsqueeze(inside, *range(1, 2 + len(source.channels)))
        return g.unsqueeze(g.where(inside, line, fill), 2)

    def _neighbour(self, source: Node, dy: int, height: int) -> Value:
        """The row of a condition map that is `dy` pixels away, the next one where there is none."""
        g, every = self.graph, source.stride[0]
        row = g.binary("min", g.binary("max", g.add(self.row, dy), 0), height * every - 1)
        return self._prologue_row(crossing(g, self.prologue, source), g.div(row, every) if every > 1 else row)


def _columns(node: Node, source: Node, offsets: list[Offset], count: int) -> torch.Tensor:
    """The columns of `source` that `node` reads at these offsets, `[columns, offsets]`."""
    factor, every = node.stride[1] // source.stride[1], source.stride[1]
    return torch.arange(count)[:, None] * factor + torch.tensor([dx // every for _, dx in offsets])


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
