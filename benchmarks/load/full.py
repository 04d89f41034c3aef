"""An engine whose slots are all taken, beside one offline batch after another: images per second, counted in rows.

Where images take long, to wait for many of them would take minutes. Under full load images join at any row, so the
slots are filled one after another: they then stand at rows that are spread over the image.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from ways import Conditions

from pixelsnail_infer.runtime import Engine, Sampler
from pixelsnail_infer.runtime.engine.stats import Stats

Choose = Callable[[int], Conditions]
POLL = 0.001


def offline_rate(sampler: Sampler, slots: int, conditions: Choose, seconds: float) -> float:
    """Images per second of one batch of `slots` after another, for at least so many seconds."""
    given = _stacked(conditions, slots)
    started, images = time.perf_counter(), 0
    while time.perf_counter() - started < seconds or not images:
        sampler.sample(slots, seed=images, max_batch=slots, **given)
        images += slots
    return images / (time.perf_counter() - started)


def full_rate(sampler: Sampler, slots: int, conditions: Choose, seconds: float, most: float) -> float:
    """Images per second of an engine that never has an empty slot; `most` is more than it can draw."""
    height, waiting = sampler.manifest.height, slots + int(most * seconds)
    with Engine(sampler, slots=slots, queue=slots, memory=1 << 30) as engine:
        for k in range(slots):
            _until(engine, k * height // slots)
            engine.submit(seed=k, **conditions(k))
        engine.submit(waiting, seed=slots, **_stacked(conditions, waiting))
        started, before = _until(engine, height + 1)
        while True:
            ended, after = _until(engine, engine.stats().batches + 1)
            if ended - started >= seconds:
                break
        left = engine.stats().waiting
        engine.close(drain=False)
    rows = after.rows - before.rows
    if rows != slots * (after.batches - before.batches) or not left:
        raise SystemExit("A slot was empty: nothing can be said of full load.")
    return rows / height / (ended - started)


def _until(engine: Engine, rows: int) -> tuple[float, Stats]:
    """The moment at which so many rows have been drawn, and what the engine then counts."""
    while (stats := engine.stats()).batches < rows:
        time.sleep(POLL)
    return time.perf_counter(), stats


def _stacked(conditions: Choose, n: int) -> Conditions:
    several = [conditions(k) for k in range(n)]
    return {name: np.stack([held[name] for held in several]) for name in several[0]}
