"""The reference interpreter: runs the staged program in PyTorch, plainly: position by position, or a row at once.

Every kept value has a whole canvas that starts as NaN: a read of anything that the schedule has not computed yet shows
in the result. A row at once takes every node of the step in one go for all columns, and a column's reads of what its
step could not have, later columns and the parts of the step that come after, give NaN as they do one by one.
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
from pixelsnail_infer.export.fields import TAPPED, Node, key_ends, topological

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
            empty = torch.empty((batch, height, width, *node.channels), dtype=node.dtype)
            self.store[node] = empty.fill_(self._unknown(empty))
        self.products = {mix: {dot for dot, _ in key_products(mix)} for mix in program.support}
        self.row: dict[Node, torch.Tensor] = {}  # [B, W, ...]
        self.step: dict[Node, torch.Tensor] = {}  # [B, columns, ...]

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
            values[node] = self._guarded(node, self._value(node, i, columns), i, columns.start)
            self._keep(node, values[node], i, columns)

    def _keep(self, node: Node, value: torch.Tensor, i: int, columns: slice) -> None:
        if node in self.store:
            self.store[node][:, i, columns] = value

    def _guarded(self, node: Node, value: torch.Tensor, i: int, j: int) -> torch.Tensor:
        """The border where the node's own frame has not begun."""
        top, left = self.program.guard.get(node, (0, 0))
        if i >= top and j >= left:
            return value
        border = self.program.border[node].to(value.dtype).expand(node.channels)
        outside = torch.arange(j, j + value.shape[1]) < left if i >= top else torch.ones(value.shape[1]).bool()
        return torch.where(outside.view(1, -1, *(1,) * len(node.channels)), border, value)

    def _value(self, node: Node, i: int, columns: slice) -> torch.Tensor:
        if node.op == "input":
            i, j = i + self._moved(node)[0], columns.start + self._moved(node)[1]
            width = columns.stop - columns.start
            return window(self.codes, (i, j), (1, width), torch.zeros((), dtype=node.dtype))[:, 0]
        if node.op in TAPPED:
            return tap_sum(node, lambda offset: self._read(node, offset, i, columns))
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
            value = value[:, i, columns] if source.frame else value[:, None]
        elif source in self.step:
            value = self._now(node, source)
        else:
            value = self.row[source][:, columns]
        lifted = node.keys is not None and source.keys is None and node.op != "key_dot"
        return value[..., None] if lifted else value

    def _read(self, node: Node, offset: tuple[int, int], i: int, columns: slice) -> torch.Tensor:
        """The source at an offset, border outside."""
        (dy, dx), (edge,) = offset, node.inputs
        source = edge.source
        width = columns.stop - columns.start
        if source in self.fixed:
            return window(self.fixed[source], (i + dy, columns.start + dx), (1, width), edge.border)[:, 0]
        border = self.program.border.get(source)
        if dy == 0 and source in self.row:
            return window(self.row[source][:, None], (0, columns.start + dx), (1, width), border)[:, 0]
        if (dy, dx) == (0, 0):
            return self._now(node, source)
        held = self.store[source]
        if dy == 0 and dx > 0:  # columns whose steps come later
            held = torch.full_like(held, self._unknown(held))
        value = window(held, (i + dy, columns.start + dx), (1, width), border)[:, 0]
        return value if self._covered(node, source, dy, dx) else torch.full_like(value, self._unknown(value))

    def _now(self, node: Node, source: Node) -> torch.Tensor:
        """What this very step has computed when it comes to `node`."""
        value = self.step[source]
        late = self.program.stage[source] > self.program.stage[node]
        return torch.full_like(value, self._unknown(value)) if late else value

    def _covered(self, node: Node, source: Node, dy: int, dx: int) -> bool:
        """Whether the state that is kept of `source` holds this offset for the graph that computes `node`."""
        entry = self.kept[source]
        told = entry.row_reads if self.program.stage[node] <= Stage.ROW else entry.step_reads
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
