"""The reference interpreter in the order of waves: all live rows at once, one pixel of each, in PyTorch.

As in `interpret`, every kept value has a whole canvas that starts as NaN. What a ring no longer holds is NaN again, and
a wave sees nothing of what its other lanes compute: so a slope, a span or a ring that is one too small shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from pixelsnail_infer.export.analysis.stages import Stage
from pixelsnail_infer.export.analysis.wave import Wave
from pixelsnail_infer.export.evaluation.torch_ops import evaluate
from pixelsnail_infer.export.evaluation.whole import attend, full_value, tap_sum
from pixelsnail_infer.export.fields import TAPPED, Node, Offset
from pixelsnail_infer.wave import live_rows, wave_count

__all__ = ["run_waves"]

Tensor = torch.Tensor


def run_waves(wave: Wave, inputs: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The program under teacher forcing: of every wave the rows and columns that it draws, int `[n]`, and
    their logits `[B, n, levels]`."""
    run, program = _Run(wave, inputs), wave.program
    waves = wave_count(program.shape, wave.slope)
    ahead, now = program.of(Stage.ROW), program.of(Stage.BEFORE, Stage.AFTER)
    for start in range(0, waves, wave.span):
        block = [_places(wave, time) for time in range(start, min(start + wave.span, waves))]
        known = [run.computed(ahead, *places, {}) for places in block]
        for places, held in zip(block, known, strict=True):
            run.forget(*places)  # first, for a wave that runs twice finds its own writes
            values = run.computed(now, *places, held)
            run.keep(values, *places)
            row, col = places
            drawn = col >= wave.lead
            if drawn.any():
                yield row[drawn], col[drawn] - wave.lead, values[program.output][:, drawn]


def _places(wave: Wave, time: int) -> tuple[Tensor, Tensor]:
    rows = live_rows(wave.program.shape, wave.slope, time)
    row = torch.arange(rows.start, rows.stop)
    return row, time - wave.slope * row


class _Run:
    def __init__(self, wave: Wave, inputs: Mapping[str, Tensor]) -> None:
        self.program, self.layout = wave.program, wave.layout
        program = wave.program
        self.codes = _begun_early(full_value(program.pixel, {}, inputs), wave.lead)  # [B, H, lead + W, *channels]
        self.fixed: dict[Node, Tensor] = {}  # constants and prologue, whole
        for node in program.of(Stage.CONSTANT, Stage.PROLOGUE):
            self.fixed[node] = full_value(node, self.fixed, inputs)
        height, width = program.shape
        self.store = {node: torch.full((self.codes.shape[0], height, width, *node.channels), _unknown(node.dtype),
                                       dtype=node.dtype) for node in wave.kept}

    def computed(self, nodes: list[Node], row: Tensor, col: Tensor, held: Mapping[Node, Tensor]) -> dict[Node, Tensor]:
        """The nodes at these positions, each `[B, n, ...]`, and what is `held` of them already."""
        values = dict(held)
        for node in nodes:
            value = self._value(node, row, col, values)
            if node in self.program.guard:
                top, left = self.program.guard[node]
                border = self.program.border[node].to(value.dtype).expand(node.channels)
                inside = ((row >= top) & (col >= left)).view(1, -1, *(1,) * len(node.channels))
                value = torch.where(inside, value, border)
            values[node] = value
        return values

    def forget(self, row: Tensor, col: Tensor) -> None:
        """What stands where a ring is about to be written."""
        for node, store in self.store.items():
            gone = row - (self.layout.place[node][0].rows - 1)
            store[:, gone[gone >= 0], col[gone >= 0]] = _unknown(node.dtype)

    def keep(self, values: Mapping[Node, Tensor], row: Tensor, col: Tensor) -> None:
        """Write what is kept."""
        for node, store in self.store.items():
            store[:, row, col] = values[node]

    def _value(self, node: Node, row: Tensor, col: Tensor, values: Mapping[Node, Tensor]) -> Tensor:
        if node.op == "input":
            return self.codes[:, row, col]
        if node.op in TAPPED:
            return tap_sum(node, lambda offset: self._read(node, offset, row, col, values))
        if node.op == "upsample":  # behind the prologue's cut
            fy, fx = node.attrs["factors"]
            return self.fixed[node.inputs[0].source][:, row // fy, col // fx]
        args = [self._here(edge.source, node, row, col, values) for edge in node.inputs if not edge.keys]
        if node.op in ("key_dot", "key_mix"):
            return attend(node, args[0], self.fixed[node.inputs[1].source])
        return evaluate(node, args, 2)

    def _here(self, source: Node, node: Node, row: Tensor, col: Tensor, values: Mapping[Node, Tensor]) -> Tensor:
        """The source at the positions themselves."""
        if source in self.fixed:
            value = self.fixed[source][:, row, col] if source.frame else self.fixed[source][:, None]
        else:
            value = values[source]
            if self.program.stage[source] > self.program.stage[node]:
                value = torch.full_like(value, _unknown(value.dtype))
        lifted = node.keys is not None and source.keys is None and node.op != "key_dot"
        return value[..., None] if lifted else value

    def _read(self, node: Node, offset: Offset, row: Tensor, col: Tensor, values: Mapping[Node, Tensor]) -> Tensor:
        """The source at an offset, border outside."""
        (edge,), (dy, dx) = node.inputs, offset
        source = edge.source
        if offset == (0, 0) and source not in self.fixed:
            return self._here(source, node, row, col, values)
        held = self.fixed[source] if source in self.fixed else self.store[source]
        border = edge.border if source in self.fixed else self.program.border.get(source)
        fill = torch.zeros((), dtype=held.dtype) if border is None else border.to(held.dtype)
        height, width = held.shape[1:3]
        there, along = row + dy, col + dx
        inside = (there >= 0) & (there < height) & (along >= 0) & (along < width)
        found = held[:, there.clamp(0, height - 1), along.clamp(0, width - 1)]
        return torch.where(inside.view(1, -1, *(1,) * (found.ndim - 2)), found, fill.expand(found.shape[2:]))


def _begun_early(codes: Tensor, lead: int) -> Tensor:
    """With so many columns before the first one, in which nothing is drawn."""
    before = codes.new_full((*codes.shape[:2], lead, *codes.shape[3:]), _unknown(codes.dtype)
                            if codes.dtype.is_floating_point else 0)
    return torch.cat([before, codes], 2)


def _unknown(dtype: torch.dtype) -> float:
    return float("nan") if dtype.is_floating_point else -(1 << 40)
