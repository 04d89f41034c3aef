"""How fast this machine reads memory: NumPy reads more than its caches hold, with as many threads as the engine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

__all__ = ["StreamingRead"]

BYTES = 1 << 28  # of all threads together


class StreamingRead:
    """Reads `BYTES` of memory, a piece for each thread. Use it in a `with`, which ends the threads."""

    def __init__(self, threads: int, size: int = BYTES) -> None:
        self._pool = ThreadPoolExecutor(threads)
        self._pieces = [np.ones(size // 8 // threads, np.int64) for _ in range(threads)]

    def seconds_per_byte(self) -> float:
        """One reading, timed."""
        started = perf_counter()
        list(self._pool.map(_read, self._pieces))
        return (perf_counter() - started) / sum(piece.nbytes for piece in self._pieces)

    def __enter__(self) -> StreamingRead:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()


def _read(piece: NDArray[np.int64]) -> int:
    return int(np.bitwise_or.reduce(piece))  # NumPy lets other threads run meanwhile
