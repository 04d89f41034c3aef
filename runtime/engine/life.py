"""What engines of one and of several models share: the end of their threads."""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import TypeVar

from pixelsnail_infer.runtime.engine.home import Home
from pixelsnail_infer.runtime.engine.worker import Worker

__all__ = ["Life"]

Self = TypeVar("Self", bound="Life")


class Life:
    """The workers of an engine, in the order in which they are ended; they end, too, when the engine is forgotten or
    Python ends. What they do not hold is the engine itself."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = tuple(workers)
        self._home = Home()
        weakref.finalize(self, _forget, self._workers, self._home).atexit = False

    def close(self, drain: bool = True, timeout: float | None = None) -> bool:
        """Take no more requests; finish those that were accepted, or without `drain` fail them with `EngineClosed`.
        Waits at most `timeout` seconds; returns whether all threads have ended, after which the buffers are free. May
        be called again, also to stop draining. A signal handler gives drain=False and timeout=0: the code that it
        interrupts may hold what a thread needs to end."""
        self._home.expect_here()
        until = None if timeout is None else time.monotonic() + timeout
        if not drain:
            for worker in self._workers:  # all give up before any is waited for
                worker.close(False, 0)
        # one that goes on still feeds the next ones, which are not told before it has ended
        return all(worker.close(drain, None if until is None else until - time.monotonic()) for worker in self._workers)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._home.here:  # a child that was forked inside of the block leaves it as it likes
            self.close(drain=error is None)

    def _expect_open(self) -> None:
        """Raises `EngineClosed` when a worker takes nothing more, or after a fork."""
        self._home.expect_here()
        for worker in self._workers:
            worker.expect_open()


def _forget(workers: Sequence[Worker], home: Home) -> None:
    """The engine was forgotten: see the rule in `Worker`."""
    if home.here:
        for worker in workers:
            worker.tell(drain=False)
