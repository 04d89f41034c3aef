"""Times on a device: what was asked for is finished before the clock is read."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def finish(device: str) -> None:
    """Wait until the device has done what it was asked for."""
    if device.startswith("cuda") and torch.cuda.is_available():
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: str) -> float:
    """One call, from an idle device to an idle device."""
    finish(device)
    started = time.perf_counter()
    work()
    finish(device)
    return time.perf_counter() - started


def each(work: Callable[[], object], device: str, count: int, rounds: int = 5) -> float:
    """Median over rounds of the seconds of one call, `count` of which follow each other without waiting."""

    def many() -> None:
        for _ in range(count):
            work()

    many()
    return statistics.median(seconds(many, device) for _ in range(rounds)) / count
