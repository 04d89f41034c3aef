"""The step graph and its buffers for one batch: each image at a step of its own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.denoiser import LOW_RES, DenoiserManifest
from pixelsnail_infer.noise import DRAWING, normal_image
from pixelsnail_infer.runtime.backends import Backend, Buffer, Graph
from pixelsnail_infer.runtime.backends.signature import tensor_bytes
from pixelsnail_infer.runtime.denoising.files import denoiser_signature
from pixelsnail_infer.runtime.denoising.inputs import Conditions
from pixelsnail_infer.runtime.denoising.projections import Projections
from pixelsnail_infer.runtime.denoising.schedule import COEFFICIENTS, Table

__all__ = ["Batch", "batch_bytes", "drawing_noise"]

ADDS = COEFFICIENTS.index("s")
Noise = NDArray[np.float32]


def batch_bytes(manifest: DenoiserManifest, n: int) -> int:
    """Bytes of the buffers of n images, without what the engine takes for itself."""
    expected = denoiser_signature(manifest, "step")
    return n * tensor_bytes((*expected.inputs.values(), *expected.outputs.values()))


class Batch:
    """Buffers for so many images, bound to the step graph. Not to be used by two threads at once."""

    def __init__(self, manifest: DenoiserManifest, backend: Backend, graph: Graph, size: int) -> None:
        self.size = size
        expected = denoiser_signature(manifest, "step")
        tensors = expected.inputs | expected.outputs
        self._buffers: dict[str, Buffer] = {
            name: backend.allocate((size, *shape), dtype) for name, (dtype, shape) in tensors.items()}
        self._inputs, self._outputs = tuple(expected.inputs), tuple(expected.outputs)
        self._bound = graph.bind({name: self._buffers[name] for name in self._inputs},
                                 {name: self._buffers[name] for name in self._outputs})  # fmt: skip

    def run(self, x: NDArray[np.float32], noise: Noise | None, rows: NDArray[np.float64], steps: NDArray[np.int64],
            conditions: Conditions, projections: Projections) -> Mapping[str, NDArray[np.float32]]:  # fmt: skip
        """One reverse step of images [B, C, H, W], each with its row [B, 9] of the table and its step [B]; no noise is
        zeros. What comes back are views that the next run writes over."""
        given = self._buffers
        given["x"].array[...] = x
        given["noise"].array[...] = 0.0 if noise is None else noise
        given["coefficients"].array[...] = rows
        projections.fill(given["projections"].array, steps, conditions.labels)
        if conditions.low_res is not None:
            given[LOW_RES].array[...] = conditions.low_res
        for name in self._inputs:
            given[name].push()
        self._bound.run()
        for name in self._outputs:
            given[name].pull()
        return {name: given[name].array for name in self._outputs}


def drawing_noise(
    keys: NDArray[np.uint64], step: int, shape: tuple[int, ...], row: Table | None = None
) -> Noise | None:
    """Noise [B, *shape] of the images with `keys`, for a step of the whole diffusion; None where the `row` adds
    none."""
    if row is not None and row[ADDS] == 0.0:
        return None
    noise = np.empty((len(keys), *shape), np.float32)
    for slot, key in enumerate(keys):
        normal_image(key, DRAWING, step, shape, noise[slot])
    return noise
