"""One batch size of the wavefront: its buffers, and the wave graphs bound for every number of lanes. Mutable; used by
one thread at a time.

A wave draws one pixel of every live row of every slot. Lanes stand row by row, in each row slot by slot, so that lane
k's slot is k mod B whatever the rows are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime.backends.graphs import Graphs
from pixelsnail_infer.runtime.backends.protocol import BoundGraph, Buffer, WaveBackend
from pixelsnail_infer.runtime.backends.signature import signature, tensor_bytes
from pixelsnail_infer.runtime.drawing.prologue import Prologue
from pixelsnail_infer.runtime.drawing.states import SlotStates
from pixelsnail_infer.wave import WaveSpec, live_rows, most_live, wave_count

Places = tuple[NDArray[np.int64], NDArray[np.int64]]


class WaveBatch:
    """Everything that `size` slots need to be drawn in waves. Every state is bound as input and output at once."""

    def __init__(self, manifest: Manifest, backend: WaveBackend, graphs: Graphs, size: int) -> None:
        assert manifest.wave is not None
        self.size, self.spec = size, manifest.wave
        self.shape = self.spec.lanes(manifest.shape)
        self.waves = wave_count(self.shape, self.spec.slope)
        self._backend, self._graphs = backend, graphs
        self.prologue = Prologue(manifest, backend, graphs, size)
        self.states = SlotStates(manifest.wave, backend, size)
        most = size * most_live(self.shape, self.spec.slope)
        self.buffers = self._allocated(manifest, "wave", most)
        self._ahead = self._allocated(manifest, "ahead", most * self.spec.span) if self.spec.ahead else {}
        if self._ahead:
            self.buffers["ahead"] = self._ahead["ahead"]
        for held in (self.buffers, self._ahead):
            if held:
                held["slot"].array[...] = np.arange(len(held["slot"].array)) % size
                held["slot"].push()
        self._bound: dict[tuple[str, int], BoundGraph] = {}
        self._next = 0  # of the lanes that the ahead graph ran for, the first one that is not drawn yet

    def _allocated(self, manifest: Manifest, part: str, lanes: int) -> dict[str, Buffer]:
        shapes = signature(manifest, part)
        found = {**shapes.inputs, **{name: held for name, held in shapes.outputs.items() if name[-4:] != ".out"}}
        return {name: self._backend.allocate((lanes, *shape), dtype) for name, (dtype, shape) in found.items()
                if (part, name) != ("wave", "ahead")}  # fmt: skip

    def bound(self, part: str, lanes: int) -> BoundGraph:
        """The part "wave" or "ahead" bound for so many lanes; bound when first asked for."""
        if (part, lanes) not in self._bound:
            held = self.buffers if part == "wave" else self._ahead
            lead = {name: buffer if (part, name) == ("wave", "ahead") else self._backend.first(buffer, lanes)
                    for name, buffer in held.items()}  # fmt: skip
            outputs = lead | {f"{name}.out": buffer for name, buffer in self.states.buffers.items()}
            graph = self._graphs(part)
            inputs = {**lead, **self.prologue.tensors, **self.states.buffers}
            self._bound[part, lanes] = graph.bind(inputs, {name: outputs[name] for name in graph.outputs})
        return self._bound[part, lanes]

    def column(self, time: int, row: Any) -> Any:
        """Of a row's lane at this time; where there is none it is beyond the canvas."""
        return time - (self.spec.lead or 0) - self.spec.slope * row

    def places(self, time: int) -> Places:
        """The rows and columns, each [rows], of a wave's lanes. At columns below 0 nothing is drawn."""
        rows = live_rows(self.shape, self.spec.slope, time)
        row = np.arange(rows.start, rows.stop)
        return row, self.column(time, row)

    def lanes(self, name: str, rows: int) -> NDArray[Any]:
        """A buffer's lanes of so many rows, [rows, B, …]: a view."""
        held: NDArray[Any] = self.buffers[name].array
        return held[: rows * self.size].reshape(rows, self.size, *held.shape[1:])

    def run_ahead(self, time: int) -> None:
        """Compute ahead for the waves from `time` on, as many as the span and no more than there are."""
        waves = [self.places(t) for t in range(time, min(time + self.spec.span, self.waves))]
        for name, k in (("row", 0), ("col", 1)):
            values = np.repeat(np.concatenate([places[k] for places in waves]), self.size)
            self._ahead[name].array[: len(values)] = values
            self._ahead[name].push()
        self.bound("ahead", len(values)).run()
        self._next = 0

    def run(self, places: Places) -> BoundGraph:
        """Run one wave, whose other inputs are there; returns the graph, which may be run again."""
        row, col = places
        count = len(row) * self.size
        self.lanes("row", len(row))[...] = row[:, None]
        self.lanes("col", len(row))[...] = col[:, None]
        if self._ahead:
            self.buffers["place"].array[:count] = np.arange(self._next, self._next + count)
            self._next += count
        for name in ("row", "col", "place", "noise", "given", "use_given"):
            if name in self.buffers:
                self.buffers[name].push()
        graph = self.bound("wave", count)
        graph.run()
        return graph


def wave_bytes(manifest: Manifest, wave: WaveSpec, size: int) -> int:
    """Exact bytes of a `WaveBatch`, and of the noise of the rows that are live."""
    lanes = size * most_live(wave.lanes(manifest.shape), wave.slope)
    held = signature(manifest, "wave")
    each = [*held.inputs.values(), held.outputs["logits"], held.outputs["pixel"]]
    ahead = list(signature(manifest, "ahead").inputs.values()) if wave.ahead else []
    images = [(spec.dtype, spec.shape) for spec in manifest.prologue]
    images += [(spec.dtype, spec.shape) for spec in manifest.conditions]
    noise = lanes * manifest.width * 4 * manifest.noise.width
    states = size * sum(spec.bytes_per_slot for spec in wave.states)
    shared = 4 * (wave.ahead or 0) * lanes * (wave.span - 1)
    return lanes * (tensor_bytes(each) + wave.span * tensor_bytes(ahead)) + size * tensor_bytes(images) + noise \
        + states + shared
