"""The wavefront of one batch size, timed: blocks of waves that share a run of the ahead graph, evenly spread."""

from __future__ import annotations

import statistics
from itertools import cycle
from time import perf_counter
from typing import Any

from pixelsnail_infer.runtime.bench.drawing import LEAST_ROWS, spread_rows
from pixelsnail_infer.runtime.drawing.wave_batch import WaveBatch
from pixelsnail_infer.runtime.drawing.workspace import Workspace

__all__ = ["measure_waves"]


def measure_waves(work: Workspace, size: int, seconds: float) -> dict[str, Any]:
    """Time waves of `size` images for so many seconds, at least some; noise is not drawn. The image is extrapolated
    from the blocks that were timed, each by its median."""
    work.warm_up_waves(size)
    batch = work.wave
    assert batch is not None
    span, waves = batch.spec.span, batch.waves
    starts = range(0, waves, span)
    times: dict[int, list[float]] = {}
    began = perf_counter()
    for block in cycle(spread_rows(len(starts))):
        if block not in times:
            _run(batch, starts[block])  # binds what it takes
        times.setdefault(block, []).append(_run(batch, starts[block]))
        if len(times) >= min(LEAST_ROWS, len(starts)) and perf_counter() - began > seconds:
            break
    image = len(starts) * statistics.mean(statistics.median(held) for held in times.values())
    return {"seconds_per_image": image / size, "waves": waves, "waves_timed": min(waves, len(times) * span)}


def _run(batch: WaveBatch, start: int) -> float:
    """Seconds of a block of waves."""
    began = perf_counter()
    if batch.spec.span > 1:
        batch.run_ahead(start)
    for time in range(start, min(start + batch.spec.span, batch.waves)):
        batch.run(batch.places(time))
    return perf_counter() - began
