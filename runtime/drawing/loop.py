"""The sampling loop: every row of a batch, and in it, by a sweep of the engine, every column, in raster order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from pixelsnail_infer.distributions import Distribution, distribution_of
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime.drawing.batch import Batch
from pixelsnail_infer.runtime.requests.request import Request


def draw_rows(manifest: Manifest, batch: Batch, request: Request, first: int) -> Iterator[NDArray[Any]]:
    """Draw rows `first` … H-1 of a batch whose states stand before row `first`; yields fresh pixels, [B, W] or
    [B, W, C]."""
    distribution = distribution_of(manifest)
    part = "filtered" if request.filtered(distribution.parameters) else "step"
    _write_settings(batch, request, distribution)
    for i in range(first, manifest.height):
        _write_noise(batch, request, distribution, i)
        batch.write_given(request.given[:, i], request.use_given[:, i])
        batch.run_row(i)
        yield batch.sweep(part).draw()


def _write_settings(batch: Batch, request: Request, distribution: Distribution) -> None:
    batch.write("temperature", request.temperature)
    if distribution.filters:
        batch.write("top_k", request.top_k)
        batch.write("top_p", request.top_p)


def _write_noise(batch: Batch, request: Request, distribution: Distribution, row: int) -> None:
    """Noise of one row for every slot; a slot at temperature 0 or with a wholly known row needs none and gets zeros."""
    buffer = batch.buffers["noise"]
    idle = (request.temperature == 0) | request.use_given[:, row].all(axis=1)
    for slot in range(batch.size):
        if idle[slot]:
            buffer.array[slot] = 0
        else:
            one = slice(slot, slot + 1)
            distribution.noise_row(request.keys[one], row, request.use_given.shape[2], out=buffer.array[one])
    buffer.push()
