"""The machine that figures were taken on, and what else it did meanwhile."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from pixelsnail_infer import __version__
from pixelsnail_infer.plainfile import machine_memory
from pixelsnail_infer.runtime.backends.host import usable_cores

__all__ = ["Others", "load_average", "machine"]

_ENGINES = ("onnxruntime", "onnxruntime-gpu", "torch")
_STAT, _CPUINFO = Path("/proc/stat"), Path("/proc/cpuinfo")
_IDLE = (3, 4)  # columns of /proc/stat: idle, and waiting for a disk


def machine() -> dict[str, Any]:
    """Processor, cores, memory, system, and the versions of what computes."""
    versions = {"pixelsnail_infer": __version__, "numpy": np.__version__, "python": platform.python_version()}
    for name in _ENGINES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"processor": _processor(), "cores": usable_cores(), "memory_bytes": machine_memory(),
            "system": platform.platform(), "versions": versions}  # fmt: skip


def load_average() -> list[float] | None:
    """Of the last 1, 5 and 15 minutes; None where the system does not tell."""
    try:
        return [round(value, 2) for value in os.getloadavg()]
    except (AttributeError, OSError):
        return None


class Others:
    """How many cores other processes kept busy since this was made."""

    def __init__(self) -> None:
        self._started, self._busy, self._own = perf_counter(), _busy(), _own()

    def cores(self) -> float | None:
        """The mean number of cores; None where the system does not tell. In a container it may count those of others
        on the same machine."""
        if self._busy is None or (now := _busy()) is None:
            return None
        return max(0.0, (now - self._busy - (_own() - self._own)) / max(perf_counter() - self._started, 1e-9))


def _busy() -> float | None:
    """Seconds that all cores were busy since the machine was started."""
    try:
        ticks = [int(number) for number in _STAT.read_text().splitlines()[0].split()[1:9]]
        return (sum(ticks) - sum(ticks[k] for k in _IDLE)) / os.sysconf("SC_CLK_TCK")
    except (AttributeError, IndexError, OSError, ValueError):
        return None


def _own() -> float:
    """Processor seconds of this process and of those that it started and that have ended."""
    return sum(os.times()[:4])


def _processor() -> str:
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
