"""The score graph bound for one number of images: likelihoods, and the states that known leading rows leave behind."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime.backends.graphs import Graphs
from pixelsnail_infer.runtime.backends.protocol import Backend
from pixelsnail_infer.runtime.backends.signature import signature, tensor_bytes
from pixelsnail_infer.runtime.drawing.prologue import Prologue

SCORE_BATCH = 4
"""Images that one pass of the score graph takes at most: it holds whole canvases, unlike the step."""


class ScorePass:
    """Buffers and bindings of the score graph for `size` images. Mutable; used by one thread at a time."""

    def __init__(self, manifest: Manifest, backend: Backend, graphs: Graphs, size: int) -> None:
        self.size = size
        self._states = [spec.name for spec in manifest.states]
        self.prologue = Prologue(manifest, backend, graphs, size)
        shapes = signature(manifest, "score")
        self._inputs = {name: backend.allocate((size, *dims), dtype) for name, (dtype, dims) in shapes.inputs.items()}
        self._outputs = {name: backend.allocate((size, *dims), dtype) for name, (dtype, dims) in shapes.outputs.items()}
        self._bound = graphs("score").bind({**self._inputs, **self.prologue.tensors}, self._outputs)

    def run(self, pixels: NDArray[Any], rows: int) -> None:
        """Score `pixels` [size, H, W] or [size, H, W, C], of which `rows` leading rows count for the states. Fill
        `prologue` before."""
        for name, values in (("pixels", pixels), ("rows", rows)):
            self._inputs[name].array[...] = values
            self._inputs[name].push()
        self._bound.run()

    def logprob(self) -> NDArray[np.float32]:
        """Natural-log probability of every pixel, float32 [size, H, W]; overwritten by the next run."""
        self._outputs["logprob"].pull()
        return self._outputs["logprob"].array

    def states(self) -> dict[str, NDArray[Any]]:
        """States by name, each [size, N, S, C]; overwritten by the next run."""
        for name in self._states:
            self._outputs[f"{name}.out"].pull()
        return {name: self._outputs[f"{name}.out"].array for name in self._states}


def score_bytes(manifest: Manifest, size: int) -> int:
    """Exact bytes of the buffers of a `ScorePass` of `size` images."""
    shapes = signature(manifest, "score")
    held = [*shapes.inputs.values(), *shapes.outputs.values()]
    held += [(spec.dtype, spec.shape) for spec in manifest.prologue]
    held += [(spec.dtype, spec.shape) for spec in manifest.conditions]
    return size * tensor_bytes(held)


def log_likelihood(logprob: NDArray[np.float32]) -> NDArray[np.float64]:
    """Natural logarithm of each image's probability, float64 [n] in nats, of `logprob` [n, H, W] of its pixels."""
    result: NDArray[np.float64] = logprob.sum(axis=(1, 2), dtype=np.float64)
    return result
