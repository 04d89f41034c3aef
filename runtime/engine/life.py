"""What engines of one and of several models share: the end of their threads."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, TypeVar

from pixelsnail_infer.errors import EngineClosed
from pixelsnail_infer.runtime.engine.loop import Loop

__all__ = ["Life", "Worker"]

Self = TypeVar("Self", bound="Life")


class Worker(Protocol):
    """A thread that can be ended."""

    def close(self, drain: bool, timeout: float | None = None) -> bool: ...


class Life:
    """The workers of an engine, in the order in which they are ended; they end, too, when the engine is forgotten or
    Python ends. What they do not hold is the engine itself."""

    def __init__(self, loops: Sequence[Loop], others: Sequence[Worker] = ()) -> None:
        self._loops = tuple(loops)
        self._workers: tuple[Worker, ...] = (*loops, *others)
        self._process = os.getpid()
        weakref.finalize(self, _stop, self._workers, self._process)

    def close(self, drain: bool = True, timeout: float | None = None) -> bool:
        """Take no more requests; finish those that were accepted, or without `drain` fail them with `EngineClosed`.
        Waits at most `timeout` seconds; returns whether all threads have ended, after which the buffers are free. May
        be called again, also to stop draining."""
        self._check_process()
        until = None if timeout is None else time.monotonic() + timeout
        return _close(self._workers, drain, until)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(drain=error is None)

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise EngineClosed("This engine belongs to the process before the fork; make one in this process.")


def _close(workers: Sequence[Worker], drain: bool, until: float | None) -> bool:
    if not drain:
        for worker in workers:  # all give up before any is waited for
            worker.close(False, 0)
    ended = [worker.close(drain, None if until is None else max(until - time.monotonic(), 0)) for worker in workers]
    return all(ended)


def _stop(workers: Sequence[Worker], process: int) -> None:
    """Give up what is left, except in a process that was forked."""
    if os.getpid() == process:
        _close(workers, False, None)
