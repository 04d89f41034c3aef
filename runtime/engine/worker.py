"""A thread of an engine, and how it ends."""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from abc import ABC, abstractmethod

from pixelsnail_infer.errors import EngineClosed, EngineError, PixelsnailError
from pixelsnail_infer.runtime.engine.bell import Bell, bounded
from pixelsnail_infer.runtime.engine.home import Home
from pixelsnail_infer.runtime.engine.log import report

__all__ = ["Worker"]


class Worker(ABC):
    """Works until it is told to end. Whatever ends it, an error of its own too, nothing is left without an answer.

    The rule for ending. `tell` stores flags and rings a bell: it takes no lock and waits for nobody, and the worker's
    own thread does the rest. A forgotten engine is ended by a finalizer, which the garbage collector runs at any
    allocation of any thread: inside any locked part, also one of this engine's, and in this worker's own thread. So a
    finalizer calls `tell` and nothing else. Threads are waited for in `close` and when Python ends.
    """

    def __init__(self, name: str) -> None:
        self.home = Home()
        self._bell = Bell()
        self._closing = self._dropping = False
        self._why = "This engine is closed; make another one."
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def tell(self, drain: bool) -> None:
        """Take nothing more; end when all is finished, or without `drain` as soon as can be."""
        self._closing = True
        if not drain:
            self._dropping = True
        self._bell.ring()

    def close(self, drain: bool, timeout: float | None = None) -> bool:
        """`tell`, and wait: whether the thread has ended within `timeout` seconds. Without `drain` requests have their
        answer at once."""
        self.tell(drain)
        if not drain:
            self._answer(closed())
        if threading.current_thread() is not self._thread:
            self._thread.join(bounded(timeout))
        return not self._thread.is_alive()

    def expect_open(self) -> None:
        """Raises `EngineClosed` when it takes nothing more, with the reason."""
        if self._closing:
            raise EngineClosed(self._why)

    def _start(self) -> None:
        """The last step of making one."""
        _working.add(self)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # nothing may be left without an answer
            told = f"The engine ended by an error ({type(error).__name__}: {error}); make another one."
            self._why, self._closing = told, True
            self._give_up_all(EngineError(told))
            report(logging.ERROR, "a thread of the engine ended by an error", error=error)
        finally:
            self._release()

    @abstractmethod
    def _work(self) -> None:
        """Work until there is nothing left and `_closing`, or `_dropping`."""

    @abstractmethod
    def _answer(self, reason: PixelsnailError) -> None:
        """Fail all requests, from any thread, without a lock of the worker; its own thread gives them up later."""

    @abstractmethod
    def _give_up_all(self, reason: PixelsnailError) -> None:
        """Fail all requests, and let go of them; those that come later fail, too."""

    @abstractmethod
    def _release(self) -> None:
        """Free what only the thread needs."""


def closed() -> EngineClosed:
    """The error of a request that was given up."""
    return EngineClosed("The engine was closed before the request was finished.")


_working: weakref.WeakSet[Worker] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """Python ends: what is left is given up."""
    workers = [worker for worker in list(_working) if worker.home.here]
    for worker in workers:
        worker.tell(drain=False)
    for worker in workers:
        worker.close(drain=False)
