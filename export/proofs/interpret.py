"""The reference interpreter: runs the staged program in PyTorch, plainly: position by position, or a row at once.

Every kept value has a whole canvas that starts as NaN: a read of anything that the schedule has not computed yet shows
in the result. A row at once takes every node of the step in one go for all columns, and a column's reads of what its
step could not have, later columns and the parts of the step that come after, give NaN as they do one by one.
A value of a stride is computed at its live pixels only, and is read everywhere else from its canvas.
`run_full` evaluates the normal form over all positions at once, which proves lowering alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch

from pixelsnail_infer.export.analysis.availability import key_products
from pixelsnail_infer.export.analysis.stages import Program, Stage
from pixelsnail_infer.export.analysis.states import Kept, kept_values
from pixelsnail_infer.export.evaluation.torch_ops import evaluate
from pixelsnail_infer.export.evaluation.whole import attend, full_value, pooled, tap_sum
from pixelsnail_infer.export.evaluation.windows import window
from pixelsnail_infer.export.fields import TAPPED, Edge, Node, is_held, key_ends, topological
from pixelsnail_infer.export.lattice import cell, cells

__all__ = ["run_full", "run_staged", "staged_rows"]


def run_full(output: Node, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The normal form over whole frames. `inputs` by name, `[B, ...]`; gives logits `[B, H, W, levels]`."""
    values: dict[Node, torch.Tensor] = {}
    for node in topological([output]):
        values[node] = full_value(node, values, inputs)
    return values[output]


def run_staged(program: Program, inputs: Mapping[str, torch.Tensor], kept: dict[Node, Kept] | None = None,
               at_once: Callable[[], bool] = lambda: False) -> torch.Tensor:
    """The program under teacher forcing: logits `[B, H, W, levels]`, computed as the graphs compute them.

    `at_once` is asked before every row whether to take its steps in one go, which is quicker.
    """
    return torch.stack(list(staged_rows(program, inputs, kept, at_once)), 1)


def staged_rows(program: Program, inputs: Mapping[str, torch.Tensor], kept: dict[Node, Kept] | None = None,
                at_once: Callable[[], bool] = lambda: False) -> Iterator[torch.Tensor]:
    """The same row by row, `[B, W, levels]` each, for programs too large to run whole."""
    return _Run(program, inputs, kept_values(program) if kept is None else kept).run(at_once)


class _Run:
    def __init__(self, program: Program, inputs: Mapping[str, torch.Tensor], kept: dict[Node, Kept]) -> None:
        self.program, self.inputs, self.kept = program, inputs, kept
        self.codes = full_value(program.pixel, {}, inputs)  # [B, H, W, *channels]
        self.fixed: dict[Node, torch.Tensor] = {}  # constants and prologue, whole
        for node in program.of(Stage.CONSTANT, Stage.PROLOGUE):
            self.fixed[node] = full_value(node, self.fixed, inputs)
        height, width = program.shape
        batch = self.codes.shape[0]
        self.store: dict[Node, torch.Tensor] = {}
        for node in kept:
            empty = torch.empty((batch, *cells((height, width), node.stride), *node.channels), dtype=node.dtype)
            self.store[node] = empty.fill_(self._unknown(empty))
        self.products = {mix: {dot for dot, _ in key_products(mix)} for mix in program.support}
        self.row: dict[Node, torch.Tensor] = {}  # [B, cells of a row, ...], where the row is live
        self.step: dict[Node, torch.Tensor] = {}  # [B, live columns, ...], where the row and a column are

    def run(self, at_once: Callable[[], bool]) -> Iterator[torch.Tensor]:
        height, width = self.program.shape
        whole, before, after = slice(0, width), self.program.of(Stage.BEFORE), self.program.of(Stage.AFTER)
        for i in range(height):
            self.row, self.step = {}, {}
            self._compute(self.program.of(Stage.ROW), self.row, i, whole)
            if at_once():  # sources first, whatever their stage: the last column's AFTER is this one's past
                self._compute(self.program.of(Stage.BEFORE, Stage.AFTER), self.step, i, whole)
                yield self.step[self.program.output]
                continue
            logits = []
            for j in range(width):
                self.step = {}
                self._compute(before + after, self.step, i, slice(j, j + 1))
                logits.append(self.step[self.program.output])
            yield torch.cat(logits, 1)

    def _compute(self, nodes: list[Node], values: dict[Node, torch.Tensor], i: int, columns: slice) -> None:
        for node in nodes:
            live = self._live(node, i, columns)
            if live is not None:
                values[node] = self._guarded(node, self._value(node, i, live), i, live)
                self._keep(node, values[node], i, live)

    @staticmethod
    def _live(node: Node, i: int, columns: slice) -> slice | None:
        """Those of some columns at which a node is computed in a row, None where there are none."""
        sy, sx = node.stride
        start = columns.start + -columns.start % sx
        return slice(start, columns.stop, sx) if i % sy == 0 and start < columns.stop else None

    def _keep(self, node: Node, value: torch.Tensor, i: int, columns: slice) -> None:
        if node in self.store:
            first = columns.start // columns.step
            self.store[node][:, i // node.stride[0], first:first + value.shape[1]] = value

    def _guarded(self, node: Node, value: torch.Tensor, i: int, columns: slice) -> torch.Tensor:
        """The border where the node's own frame has not begun."""
        top, left = self.program.guard.get(node, (0, 0))
        if i >= top and columns.start >= left:
            return value
        border = self.program.border[node].to(value.dtype).expand(node.channels)
        outside = _numbers(columns) < (left if i >= top else columns.stop)
        return torch.where(outside.view(1, -1, *(1,) * len(node.channels)), border, value)

    def _value(self, node: Node, i: int, columns: slice) -> torch.Tensor:
        if node.op == "input":
            i, j = i + self._moved(node)[0], columns.start + self._moved(node)[1]
            width = columns.stop - columns.start
            return window(self.codes, (i, j), (1, width), torch.zeros((), dtype=node.dtype))[:, 0]
        if node.op in TAPPED:
            return tap_sum(node, lambda offset: self._read(node, offset, i, columns))
        if node.op == "merge":
            return self._merged(node, i, columns)
        if node.op == "upsample":  # behind the prologue's cut
            fy, fx = node.attrs["factors"]
            return self.fixed[node.inputs[0].source][:, i // fy].repeat_interleave(fx, 1)[:, columns]
        if node.op in ("key_dot", "key_mix"):
            return self._attended(node, i, columns)
        return evaluate(node, [self._here(e.source, i, columns, node) for e in node.inputs], 2)

    def _moved(self, node: Node) -> tuple[int, int]:
        latest = self.program.latest[node]
        return latest if latest is not None else (0, 0)

    def _here(self, source: Node, i: int, columns: slice, node: Node) -> torch.Tensor:
        """The source at the position itself, `[B, columns, ...]`."""
        if source in self.fixed:
            value = self.fixed[source]
            value = value[:, i // source.stride[0], _cells(source, columns)] if source.frame else value[:, None]
        elif source in self.step:
            value = self._now(node, source)
        else:
            value = self.row[source][:, _cells(source, columns)]
        lifted = node.keys is not None and source.keys is None and node.op != "key_dot"
        return value[..., None] if lifted else value

    def _read(self, node: Node, offset: tuple[int, int], i: int, columns: slice) -> torch.Tensor:
        """The source at an offset, border outside."""
        (dy, dx), (edge,) = offset, node.inputs
        source = edge.source
        if source in self.fixed:
            return _line(self.fixed[source], source, (i + dy, columns.start + dx), columns, edge.border)
        border = self.program.border.get(source)
        if dy == 0 and source in self.row:
            return _line(self.row[source][:, None], source, (0, columns.start + dx), columns, border)
        if (dy, dx) == (0, 0):
            return self._now(node, source)
        held = self.store[source]
        if dy == 0 and dx > 0:  # columns whose steps come later
            held = torch.full_like(held, self._unknown(held))
        value = _line(held, source, (i + dy, columns.start + dx), columns, border)
        return value if self._covered(node, source, dy, dx) else torch.full_like(value, self._unknown(value))

    def _merged(self, node: Node, i: int, columns: slice) -> torch.Tensor:
        """Of every column the phase whose turn it is."""
        (sy, sx), (fy, fx) = node.stride, node.attrs["factors"]
        parts: list[torch.Tensor] = []
        for j in range(columns.start, columns.stop, columns.step):
            edge = node.inputs[i // sy % fy * fx + j // sx % fx]
            parts.append(self._held(node, edge, i, j).expand(len(self.codes), 1, *node.channels))
        return torch.cat(parts, 1)

    def _held(self, node: Node, edge: Edge, i: int, j: int) -> torch.Tensor:
        """A source of a merge at a pixel at which it may not be live, `[B or 1, 1, ...]`."""
        source = edge.source
        if source in self.fixed and source.frame is None:
            return self.fixed[source][:, None]
        row, column = cell((i, j), source.stride)
        if source in self.fixed:
            return self.fixed[source][:, row, column:column + 1]
        if source in self.row:
            return self.row[source][:, column:column + 1]
        if not is_held(node, edge):
            value = self._now(node, source)
            return value if value.shape[1] == 1 else value[:, column:column + 1]
        entry = self.kept.get(source, Kept())
        early = min(self.program.stage[node], self.program.stage[source]) <= Stage.ROW
        if entry.held and (entry.row_reads if early else entry.step_reads):
            return self.store[source][:, row, column:column + 1]
        nothing = torch.empty((1, 1, *source.channels), dtype=source.dtype)
        return nothing.fill_(self._unknown(nothing))

    def _now(self, node: Node, source: Node) -> torch.Tensor:
        """What this very step has computed when it comes to `node`, at the columns at which `node` is live."""
        value, step = self.step[source], node.stride[1] // source.stride[1]
        if value.shape[1] > 1:  # a row at once, from column 0 on
            value = value[:, ::step] if step else value
        late = self.program.stage[source] > self.program.stage[node]
        return torch.full_like(value, self._unknown(value)) if late else value

    def _covered(self, node: Node, source: Node, dy: int, dx: int) -> bool:
        """Whether the state that is kept of `source` holds this offset for the graph that computes `node`."""
        entry = self.kept[source]
        told = entry.row_reads if self.program.stage[node] <= Stage.ROW else entry.step_reads
        dy, dx = cell((dy, dx), source.stride)
        return told and -dy <= entry.rows and -dx <= entry.left and dx <= entry.right

    @staticmethod
    def _unknown(value: torch.Tensor) -> float:
        return float("nan") if value.is_floating_point() else -(1 << 40)

    def _attended(self, node: Node, i: int, columns: slice) -> torch.Tensor:
        """Attention over a cache as far as it is filled; nothing where it does not reach, NaN where it reaches what is
        not known yet."""
        edge, here = node.inputs[1], self._here(node.inputs[0].source, i, columns, node)
        if edge.source in self.fixed:
            return attend(node, here, self.fixed[edge.source])
        cache = pooled(self.store[edge.source], edge.pool)
        reached = self._reached(node, i, columns)  # [columns, keys]
        empty = (cache != cache).flatten(3).any(3).any(0).flatten()  # [keys], in any image
        missing = reached & (self._unwritten(node, i, columns) | empty)
        cache = cache.nan_to_num(nan=0.0)
        ones = (1,) * len(node.channels)
        if node.op == "key_dot":
            products = attend(node, here, cache)  # [B, columns, *heads, keys]
            products = torch.where(reached.view(len(reached), *ones, -1), products, torch.zeros_like(products))
            return products.masked_fill(missing.view(len(reached), *ones, -1), float("nan"))
        weights = here * reached.view(len(reached), *(1,) * (here.ndim - 3), -1)
        return attend(node, weights, cache).masked_fill(missing.any(1).view(-1, *ones), float("nan"))

    def _unwritten(self, node: Node, i: int, columns: slice) -> torch.Tensor:
        """Keys that are not written when a column's `node` is computed, bool `[columns, keys]`."""
        (height, width), edge = self.program.shape, node.inputs[1]
        source, stage = edge.source, self.program.stage
        row, column = torch.arange(height)[:, None], torch.arange(width)
        own = torch.arange(columns.start, columns.stop)[:, None, None]
        together = stage[node] <= Stage.ROW  # then the whole row is its own
        inclusive = self.kept[source].inclusive and stage[source] <= stage[node]
        mine = (column >= columns.start) if together else column == own
        later = (column > own) & (not together and stage[source] > Stage.ROW)
        unwritten = (row > i) | (row == i) & (later | mine & (not inclusive))
        return pooled(unwritten.expand(len(own), height, width), edge.pool).flatten(1)

    def _reached(self, node: Node, i: int, columns: slice) -> torch.Tensor:
        """Keys that a column's query uses or depends on, bool `[columns, keys]`."""
        width = self.program.shape[1]
        if node.op == "key_mix":
            return self.program.support[node].used[i * width + columns.start:i * width + columns.stop]
        ends = key_ends(node.inputs[1], self.program.shape)
        reached = torch.zeros(columns.stop - columns.start, len(ends), dtype=torch.bool)
        for mix, support in self.program.support.items():
            if support.keys is not None and node in self.products[mix]:
                dy, dx = support.keys
                last = torch.arange(columns.start, columns.stop) + dx
                last = (i + dy) * width + last.clamp(-1, width - 1)
                reached |= ends <= last[:, None]
        return reached


def _numbers(columns: slice) -> torch.Tensor:
    """The columns, int64."""
    return torch.arange(columns.start, columns.stop, columns.step)


def _cells(source: Node, columns: slice) -> slice:
    """The cells of a source that has the columns' stride."""
    first = columns.start // columns.step
    return slice(first, first + len(_numbers(columns)))


def _line(value: torch.Tensor, source: Node, start: tuple[int, int], columns: slice, border: torch.Tensor | None
          ) -> torch.Tensor:
    """A source's `value [B, h, w, ...]` from pixel `start` on, at the steps of `columns`: `[B, columns, ...]`."""
    step, count = columns.step // source.stride[1], len(_numbers(columns))
    return window(value, cell(start, source.stride), (1, (count - 1) * step + 1), border)[:, 0, ::step]
