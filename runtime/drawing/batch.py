"""One batch size: its buffers, and the graphs bound to them once. Mutable; used by one thread at a time."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime.backends.graphs import Graphs
from pixelsnail_infer.runtime.backends.protocol import Backend, BoundGraph, Buffer, Sweep
from pixelsnail_infer.runtime.backends.signature import tensor_bytes, widest_step
from pixelsnail_infer.runtime.drawing.prologue import Prologue
from pixelsnail_infer.runtime.drawing.states import SlotStates, prefixes


class Batch:
    """Everything that `size` slots need to be drawn: inputs, row result, states, outputs, and the bound graphs.

    The row graph's result is the very buffer that the step reads; every state is bound as input and output at once.
    """

    def __init__(self, manifest: Manifest, backend: Backend, graphs: Graphs, size: int) -> None:
        self.size = size
        self._graphs = graphs
        self.prologue = Prologue(manifest, backend, graphs, size)
        self.states = SlotStates(manifest, backend, size, _growing(manifest, graphs))
        shapes = widest_step(manifest)
        per_batch = {**shapes.inputs, "logits": shapes.outputs["logits"], "pixel": shapes.outputs["pixel"]}
        self.buffers = {
            name: backend.allocate((1,) if name == "col" else (size, *shape), dtype)
            for name, (dtype, shape) in per_batch.items()
        }
        self.row_results = ("row_result", *(spec.name for spec in manifest.row_results or ()))
        self._backend, self._width = backend, manifest.width
        self._bound: dict[tuple[str, int], BoundGraph] = {}
        self._sweeps: dict[tuple[str, int], Sweep] = {}

    def prefix(self, size: int) -> Batch:
        """The first `size` slots as a batch of their own, over the same memory; for buffers that are `Sliceable`."""
        part = copy(self)
        part.size, part.states, part.prologue = size, self.states.prefix(size), self.prologue.prefix(size)
        part.buffers = {**prefixes(self.buffers, size), "col": self.buffers["col"]}
        part._bound, part._sweeps = {}, {}
        return part

    def bound(self, part: str) -> BoundGraph:
        """The part ("row", "step" or "filtered") bound to this batch's buffers, states as they lie for the row that was
        last begun; bound when first asked for."""
        key = part, self.states.level
        if key not in self._bound:
            graph = self._graphs(part)
            inputs = {**self.buffers, **self.prologue.tensors, **self.states.buffers}
            outputs: dict[str, Buffer] = {name: self.buffers[name] for name in (*self.row_results, "logits", "pixel")}
            outputs |= {f"{name}.out": buffer for name, buffer in self.states.buffers.items()}
            self._bound[key] = graph.bind(inputs, outputs)
        return self._bound[key]

    def sweep(self, part: str) -> Sweep:
        """What draws the row that was last begun by the part "step" or "filtered"; made when first asked for."""
        key = part, self.states.level
        if key not in self._sweeps:
            column, pixel = self.buffers["col"], self.buffers["pixel"]
            self._sweeps[key] = self._backend.sweep(self.bound(part), column, pixel, self._width)
        return self._sweeps[key]

    def write(self, name: str, values: object) -> None:
        """Write `values` (broadcast) into an input buffer."""
        buffer = self.buffers[name]
        buffer.array[...] = values
        buffer.push()

    def write_given(self, given: NDArray[Any], use_given: NDArray[np.bool_]) -> None:
        """Which pixels of the row at hand are taken, bool [B, W], and what they are, [B, W] or [B, W, C]."""
        self.write("given", given)
        self.write("use_given", use_given)

    def run_row(self, row: int | NDArray[np.int64]) -> None:
        """Begin a row, one for all slots or int64 [B]: make room for it, set every slot's row and run the row graph."""
        self.states.reach(int(np.max(row)) + 1)
        self.write("row", row)
        self.bound("row").run()


def _growing(manifest: Manifest, graphs: Graphs) -> list[str]:
    """The states of which the graphs take a beginning: their axis 2 is free."""
    taken = [graphs(part).inputs for part in ("row", "step")]
    found = {spec.name: [inputs[spec.name] for inputs in taken if spec.name in inputs] for spec in manifest.states}
    return [name for name, each in found.items() if each and all(info.shape[2] is None for info in each)]


def buffer_bytes(manifest: Manifest, size: int) -> int:
    """Exact bytes of a batch's other buffers: inputs, outputs, conditions and prologue tensors, without the states.

    Images that share conditions take at most three times the prologue tensors instead: see `drawing.prologue`.
    """
    shapes = widest_step(manifest)
    held = [shape for name, shape in shapes.inputs.items() if name != "col"]
    held += [shapes.outputs["logits"], shapes.outputs["pixel"]]
    held += [(spec.dtype, spec.shape) for spec in manifest.prologue]
    held += [(spec.dtype, spec.shape) for spec in manifest.conditions]
    return 8 + size * tensor_bytes(held)
