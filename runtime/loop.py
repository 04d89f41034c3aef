"""The loops over rows and columns: drawing, and replaying known pixels. Plain functions over one batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.distributions import Distribution, distribution_of
from pixelsnail_infer.errors import VerificationError
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime.batch import Batch
from pixelsnail_infer.runtime.request import Request


def draw_rows(manifest: Manifest, batch: Batch, request: Request, first: int) -> Iterator[NDArray[Any]]:
    """Draw rows `first` … H-1 of a batch whose states stand before row `first`; yields fresh pixels, [B, W] or
    [B, W, C]."""
    distribution = distribution_of(manifest)
    part = "filtered" if request.filtered(distribution.parameters) else "step"
    batch.write("temperature", request.temperature)
    if distribution.filters:
        batch.write("top_k", request.top_k)
        batch.write("top_p", request.top_p)
    for i in range(first, manifest.height):
        _write_noise(distribution, manifest.width, batch, request, i)
        _write_given(batch, request.given[:, i], request.use_given[:, i])
        pixels = np.empty((batch.size, manifest.width, *distribution.pixel_shape), distribution.dtype)
        batch.run_row(i)
        batch.run_steps(part, pixels)
        yield pixels


def replay_rows(
    manifest: Manifest, batch: Batch, pixels: NDArray[Any], part: str, first: int, twice: bool
) -> Iterator[NDArray[np.float32]]:
    """Feed rows `first` … H-1 of `pixels` [B, H, W] or [B, H, W, C] to the row graph and the step ("step" or
    "filtered"); the states stand before row `first`. Yields the logits (or a mixture's parameters) of each row, float32
    [B, W, L], fresh.

    With `twice` every graph runs a second time, and `VerificationError` is raised unless results and states stay the
    same to the bit and finite.
    """
    numbers = distribution_of(manifest).parameters
    for name, value in (("temperature", 0), ("noise", 0), ("top_k", numbers), ("top_p", 1)):
        if name in batch.buffers:
            batch.write(name, value)
    step, logits = batch.bound(part), batch.buffers["logits"]
    for i in range(first, manifest.height):
        _write_given(batch, pixels[:, i], np.ones((batch.size, manifest.width), bool))
        batch.run_row(i)
        if twice:
            _run_again(batch, "row", "row_result", f"The row graph, run twice for row {i},")
        result = np.empty((batch.size, manifest.width, numbers), np.float32)
        for j in range(manifest.width):
            batch.write("col", j)
            step.run()
            if twice:
                _run_again(batch, part, "logits", f"The {part} graph, run twice at row {i}, column {j},")
            logits.pull()
            result[:, j] = logits.array
        yield result


def _write_noise(distribution: Distribution, width: int, batch: Batch, request: Request, row: int) -> None:
    """Noise of one row for every slot; a slot at temperature 0 or with a wholly known row needs none and gets zeros."""
    buffer = batch.buffers["noise"]
    idle = (request.temperature == 0) | request.use_given[:, row].all(axis=1)
    for slot in range(batch.size):
        if idle[slot]:
            buffer.array[slot] = 0
        else:
            one = slice(slot, slot + 1)
            distribution.noise_row(request.keys[one], row, width, out=buffer.array[one])
    buffer.push()


def _write_given(batch: Batch, given: NDArray[Any], use_given: NDArray[np.bool_]) -> None:
    batch.write("given", given)
    batch.write("use_given", use_given)


def _run_again(batch: Batch, part: str, name: str, what: str) -> None:
    buffer = batch.buffers[name]
    buffer.pull()
    before, states = buffer.array.tobytes(), batch.states.snapshot()
    batch.bound(part).run()
    buffer.pull()
    changed = [] if buffer.array.tobytes() == before else [name]
    changed += batch.states.differing(states)
    if changed:
        raise VerificationError(
            f"{what} changed {', '.join(changed)} or left a number that is not finite; the graphs break the contract: "
            "export the checkpoint again."
        )
