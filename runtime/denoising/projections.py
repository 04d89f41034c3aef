"""What the network is told of every step, from the part `times`: computed for many steps at once, and kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.denoiser import LABEL, DenoiserManifest
from pixelsnail_infer.runtime.backends import Backend, Graph
from pixelsnail_infer.runtime.denoising.files import denoiser_signature
from pixelsnail_infer.runtime.denoising.schedule import Schedule

__all__ = ["BLOCK", "Projections"]

BLOCK = 32
"""Steps that share a run of the graph: its weights are read once for all of them, and a label's rows stay small."""


class Projections:
    """Rows of one schedule, [told] of a step and a label, for as long as a call lasts.

    Rows are made for `BLOCK` steps at a time, from the one that is asked for downwards; of every label the last block
    is kept, so that memory does not grow with the steps. `rows` counts what was computed.
    """

    def __init__(self, manifest: DenoiserManifest, backend: Backend, graph: Graph, schedule: Schedule) -> None:
        self._backend, self._graph, self._schedule = backend, graph, schedule
        self._signature = denoiser_signature(manifest, "times")
        self._blocks: dict[int, tuple[int, NDArray[np.float32]]] = {}
        self.rows = 0

    def fill(self, out: NDArray[Any], steps: NDArray[np.int64], labels: NDArray[np.int64] | None) -> None:
        """Write the rows of images at `steps` [B] of the schedule, with `labels` [B] of a model of classes, to `out`
        float32 [B, told]."""
        for slot, step in enumerate(steps):
            label = -1 if labels is None else int(labels[slot])
            first, block = self._blocks.get(label, (0, None))
            if block is None or not first <= step < first + len(block):
                first, block = self._computed(int(step), label)
                self._blocks[label] = first, block
            out[slot] = block[step - first]

    def _computed(self, step: int, label: int) -> tuple[int, NDArray[np.float32]]:
        """The first step of the block that ends with `step`, and its rows [steps, told]."""
        first = max(0, step + 1 - BLOCK)
        size = step + 1 - first
        tensors = self._signature.inputs | self._signature.outputs
        buffers = {name: self._backend.allocate((size, *shape), dtype) for name, (dtype, shape) in tensors.items()}
        buffers["time"].array[...] = self._schedule.times[first : step + 1]
        if LABEL in buffers:
            buffers[LABEL].array[...] = label
        for name in self._signature.inputs:
            buffers[name].push()
        self._graph.bind({name: buffers[name] for name in self._signature.inputs},
                         {name: buffers[name] for name in self._signature.outputs}).run()  # fmt: skip
        result = buffers["projections"]
        result.pull()
        self.rows += size
        return first, np.array(result.array, np.float32)
