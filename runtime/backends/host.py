"""What every engine on the host needs: cores, memory, and one line of what an engine says."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.errors import BackendError, EngineError
from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.backends.halves import host_dtype

__all__ = ["THREADS_PER_CORE", "aligned_zeros", "beginning_of", "check_threads", "no_room", "reason_of", "usable_cores"]

_ALIGNMENT = 64
THREADS_PER_CORE = 4
"""More threads than this only wait for one another; thousands never end."""


def check_threads(threads: int | None) -> None:
    """Raise `BackendError` unless it is None or a number of threads that can be of use."""
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise BackendError(f"threads is {shown(threads)}, expected None or an integer of at least 1.")
    cores = usable_cores()
    if threads is not None and threads > (most := cores * THREADS_PER_CORE):
        what = f"threads is {shown(threads)}, but this process may use {cores} core{'s' * (cores > 1)}"
        raise BackendError(f"{what}; give at most {most}, or leave it out for one per core.")


def reason_of(error: Exception) -> str:
    """What an engine's error says, as one line of moderate length."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return "".join(c if c.isprintable() else "?" for c in lines[0][:300])  # names in the file may hold anything


def usable_cores() -> int:
    """The cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this platform
        return os.cpu_count() or 1


def no_room(shape: tuple[int, ...], dtype: str, device: str, error: Exception) -> EngineError:
    """What to raise where a buffer of this size cannot be had, because of `error`."""
    size = math.prod(shape) * host_dtype(dtype).itemsize
    return EngineError(f"A buffer {dtype} {list(shape)}, {size} bytes, cannot be had on the {device} "
                       f"({reason_of(error)}); give a smaller max_batch.")  # fmt: skip


def aligned_zeros(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """A zero-filled C-contiguous host array whose address is a multiple of 64 bytes."""
    kind = host_dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    raw = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(kind).reshape(shape)


def beginning_of(memory: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """An array of this shape over the beginning of a contiguous one."""
    return memory.reshape(-1)[: math.prod(shape)].reshape(shape)
