"""The reference interpreter: runs the staged program position by position in PyTorch, plainly and slowly.

Every kept value has a whole canvas that starts as NaN: a read of anything that the schedule has not computed yet shows
in the result. `run_full` evaluates the normal form over all positions at once, which proves lowering alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

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


def run_staged(program: Program, inputs: Mapping[str, torch.Tensor], kept: dict[Node, Kept] | None = None
               ) -> torch.Tensor:
    """The program under teacher forcing: logits `[B, H, W, levels]`, computed as the graphs compute them."""
    return torch.stack(list(staged_rows(program, inputs, kept)), 1)


def staged_rows(program: Program, inputs: Mapping[str, torch.Tensor], kept: dict[Node, Kept] | None = None
                ) -> Iterator[torch.Tensor]:
    """The same row by row, `[B, W, levels]` each, for programs too large to run whole."""
    return _Run(program, inputs, kept_values(program) if kept is None else kept).run()


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
        self.step: dict[Node, torch.Tensor] = {}  # [B, 1, ...]

    def run(self) -> Iterator[torch.Tensor]:
        height, width = self.program.shape
        for i in range(height):
            logits = []
            self.row = {}
            for node in self.program.of(Stage.ROW):
                self.row[node] = self._guarded(node, self._value(node, i, slice(0, width)), i, 0)
                self._keep(node, self.row[node], i, slice(0, width))
            for j in range(width):
                self.step = {}
                for node in self.program.of(Stage.BEFORE) + self.program.of(Stage.AFTER):
                    value = self._value(node, i, slice(j, j + 1))
                    self.step[node] = self._guarded(node, value, i, j)
                    self._keep(node, self.step[node], i, slice(j, j + 1))
                logits.append(self.step[self.program.output])
            yield torch.cat(logits, 1)

    def _keep(self, node: Node, value: torch.Tensor, i: int, columns: slice) -> None:
        if node in self.store:
            self.store[node][:, i, columns] = value

    def _guarded(self, node: Node, value: torch.Tensor, i: int, j: int) -> torch.Tensor:
        """The border where the node's own frame has not begun."""
        top, left = self.program.guard.get(node, (0, 0))
        if i >= top and j >= left and (left == 0 or value.shape[1] == 1):
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
            return attend(node, self._here(node.inputs[0].source, i, columns, node), self._all(node, i, columns))
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
            value = self.step[source]
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
            return self.step[source]
        value = window(self.store[source], (i + dy, columns.start + dx), (1, width), border)[:, 0]
        return value if self._covered(node, source, dy, dx) else torch.full_like(value, self._unknown(value))

    def _covered(self, node: Node, source: Node, dy: int, dx: int) -> bool:
        """Whether the state that is kept of `source` holds this offset for the graph that computes `node`."""
        entry = self.kept[source]
        told = entry.row_reads if self.program.stage[node] <= Stage.ROW else entry.step_reads
        return told and -dy <= entry.rows and -dx <= entry.left and dx <= entry.right

    @staticmethod
    def _unknown(value: torch.Tensor) -> float:
        return float("nan") if value.is_floating_point() else -(1 << 40)

    def _all(self, node: Node, i: int, columns: slice) -> torch.Tensor:
        """A cache as far as it is filled; zero where attention does not reach (0 times NaN would be NaN)."""
        source = node.inputs[1].source
        if source in self.fixed:
            return self.fixed[source]
        value = self.store[source]
        if not self.kept[source].inclusive:  # then this position's own entry is not written yet when it is read
            value = value.clone()
            value[:, i, columns] = self._unknown(value)
        value = pooled(value, node.inputs[1].pool)
        reached = self._reached(node, i, columns).view(1, *value.shape[1:3], *(1,) * len(source.channels))
        return torch.where(reached, value, torch.zeros_like(value))

    def _reached(self, node: Node, i: int, columns: slice) -> torch.Tensor:
        """Keys that some query of these columns uses or depends on, bool `[P]`."""
        width = self.program.shape[1]
        rows = slice(i * width + columns.start, i * width + columns.stop)
        if node.op == "key_mix":
            return self.program.support[node].used[rows].any(0)
        ends = key_ends(node.inputs[1], self.program.shape)
        reached = torch.zeros_like(ends, dtype=torch.bool)
        for mix, support in self.program.support.items():
            if support.keys is not None and node in self.products[mix]:
                dy, dx = support.keys
                last = (i + dy) * width + max(0, min(columns.stop - 1 + dx, width - 1)) \
                    if 0 <= columns.stop - 1 + dx else (i + dy) * width - 1
                reached |= ends <= last
        return reached
