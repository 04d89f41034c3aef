"""Percentiles of times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["Percentiles", "percentiles"]

Percentiles = dict[str, float]
"""The `best`, `p50`, `p95` and `p99` of times in milliseconds, and how many there were, `count`."""


def percentiles(seconds: Sequence[float]) -> Percentiles:
    """Of times in seconds, at least one."""
    found = np.percentile(np.asarray(seconds, np.float64) * 1e3, (0, 50, 95, 99))
    names = ("best", "p50", "p95", "p99")
    return {**dict(zip(names, map(float, found), strict=True)), "count": len(seconds)}
