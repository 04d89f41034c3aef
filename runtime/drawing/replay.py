"""Replaying known pixels: the logits that the sampling loop would see, and the proof that a graph may run twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.distributions import distribution_of
from pixelsnail_infer.errors import VerificationError
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime.drawing.batch import Batch


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
    logits = batch.buffers["logits"]
    for i in range(first, manifest.height):
        batch.write_given(pixels[:, i], np.ones((batch.size, manifest.width), bool))
        batch.run_row(i)
        if twice:
            _run_again(batch, "row", batch.row_results, f"The row graph, run twice for row {i},")
        step, result = batch.bound(part), np.empty((batch.size, manifest.width, numbers), np.float32)
        for j in range(manifest.width):
            batch.write("col", j)
            step.run()
            if twice:
                _run_again(batch, part, ("logits",), f"The {part} graph, run twice at row {i}, column {j},")
            logits.pull()
            result[:, j] = logits.array
        yield result


def _run_again(batch: Batch, part: str, names: Sequence[str], what: str) -> None:
    before, states = _bytes_of(batch, names), batch.states.snapshot()
    batch.bound(part).run()
    after = _bytes_of(batch, names)
    changed = [name for name in names if after[name] != before[name]]
    changed += batch.states.differing(states)
    if changed:
        raise VerificationError(
            f"{what} changed {', '.join(changed)} or left a number that is not finite; the graphs break the contract: "
            "export the checkpoint again."
        )


def _bytes_of(batch: Batch, names: Sequence[str]) -> dict[str, bytes]:
    for name in names:
        batch.buffers[name].pull()
    return {name: batch.buffers[name].array.tobytes() for name in names}
