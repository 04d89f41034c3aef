"""What `submit` gives back: the request's result, its rows as they are drawn, and the means to give it up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from types import TracebackType
from typing import Generic, TypeVar

from pixelsnail_infer.errors import RequestCancelled
from pixelsnail_infer.runtime.engine.bell import Bell
from pixelsnail_infer.runtime.engine.delivery import Delivery, Row
from pixelsnail_infer.runtime.engine.timing import Timing

__all__ = ["Ticket"]

T = TypeVar("T")


class Ticket(Generic[T]):
    """One accepted request. Any thread, and any asyncio loop, may use it, several at once.

    `with ticket:` cancels what is not finished when the block is left. Nothing else does: to stop waiting, or to leave
    an iterator of rows, changes nothing for the request.
    """

    def __init__(self, delivery: Delivery, dropped: Callable[[], object]) -> None:
        self._delivery, self._dropped = delivery, dropped

    def result(self, timeout: float | None = None) -> T:
        """Wait for the images. The arrays belong to the caller; every call returns the same ones.

        Raises `TimeoutError` when they are not there after `timeout` seconds (the request goes on), and the error of a
        request that failed: `RequestCancelled`, `DeadlineExpired`, `EngineClosed` or `EngineError`.
        """
        self._delivery.home.expect_here()
        finished = Bell()
        if not self._delivery.at_end(finished.ring) and not finished.wait(timeout):
            self._delivery.forget(finished.ring)
            if not self.done:
                raise TimeoutError(f"The request is not finished after {timeout:g} s; wait again, or cancel it.")
        value: T = self._delivery.outcome()
        return value

    def rows(self) -> Iterator[Row]:
        """Every row of every image as it is drawn, those of one image from the top; where the request fails, its error
        comes after the rows that it got. Every iterator starts at the first row; a slow reader delays nothing, and
        costs no memory."""
        seen = self._delivery.start()
        while True:
            self._delivery.home.expect_here()
            more = Bell()
            found = self._delivery.fresh(seen, more.ring)
            if found is None:
                break
            yield from self._delivery.rows(found)
            if not found:
                more.wait()
        self._delivery.outcome()

    def cancel(self) -> bool:
        """Give the request up: its slots are free at the next row. False when it was finished already."""
        self._delivery.home.expect_here()
        cancelled = self._delivery.end(error=RequestCancelled("The request was cancelled."))
        if cancelled:
            self._dropped()
        return cancelled

    @property
    def done(self) -> bool:
        """Whether the request is finished, has failed, or was cancelled."""
        return self._delivery.ended

    @property
    def timing(self) -> Timing:
        """When it came, was begun, had its first row and ended."""
        return self._delivery.timing

    def __await__(self) -> Generator[object, None, T]:
        """As `result`, in asyncio."""
        return self._ended().__await__()

    async def __aiter__(self) -> AsyncIterator[Row]:
        """As `rows`, in asyncio."""
        seen = self._delivery.start()
        while True:
            self._delivery.home.expect_here()
            alarm = _Alarm()
            found = self._delivery.fresh(seen, alarm.ring)
            if found is None:
                break
            for row in self._delivery.rows(found):
                yield row
            if not found:
                try:
                    await alarm.future
                finally:
                    self._delivery.forget(alarm.ring)
        self._delivery.outcome()

    async def _ended(self) -> T:
        self._delivery.home.expect_here()
        alarm = _Alarm()
        if not self._delivery.at_end(alarm.ring):
            try:
                await alarm.future
            finally:
                self._delivery.forget(alarm.ring)
        value: T = self._delivery.outcome()
        return value

    def __enter__(self) -> Ticket[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._delivery.home.here:  # a child that was forked inside of the block leaves it as it likes
            self.cancel()


class _Alarm:
    """Wakes a task of the running asyncio loop from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self._loop.create_future()

    def ring(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._settle)
        except RuntimeError:  # that loop is closed: nobody waits
            pass

    def _settle(self) -> None:
        if not self.future.done():
            self.future.set_result(None)
