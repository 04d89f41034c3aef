"""How long a row, a step and an image take in our runtime, by batch size."""

from __future__ import annotations

from typing import Any

from agreement import conditions
from models import Case
from timing import each, seconds

from pixelsnail_infer.runtime import Sampler


def times(case: Case, sampler: Sampler, device: str, batch: int) -> dict[str, float]:
    """Milliseconds of a row and of a step, graphs alone, one after the other without waiting; seconds of an image of a
    batch as `sample` draws it, with all that it copies and waits for."""
    given = conditions(case, batch)
    sampler.sample(batch, seed=0, max_batch=batch, **given)  # binds, captures, warms up
    bound = sampler._work.batch_of(batch)
    row, step = bound.bound("row"), bound.bound("step")
    found: dict[str, float] = {"row_ms": 1e3 * each(row.run, device, 5), "step_ms": 1e3 * each(step.run, device, 50)}
    whole = min(seconds(lambda: sampler.sample(batch, seed=0, max_batch=batch, **given), device) for _ in range(2))
    return {**found, "image_s": whole / batch, "images_per_minute": 60 * batch / whole}


def memory(device: str) -> dict[str, Any]:
    """Bytes that PyTorch holds on the device at most."""
    import torch

    return {"peak_bytes": torch.cuda.max_memory_allocated(device)} if device.startswith("cuda") else {}
