"""What one request has got so far, and who waits for more. Any thread may call; the loop writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.runtime.engine.home import Home
from pixelsnail_infer.runtime.engine.timing import Timing

__all__ = ["Delivery", "Row", "Seen", "Stretch"]

Waker = Callable[[], object]
Seen = list[NDArray[np.int64]]
"""How many rows a reader has taken, of every stage and image."""


class Stretch(NamedTuple):
    """Rows `first` … `end` - 1 of an image in one stage."""

    stage: int
    image: int
    first: int
    end: int


class Row(NamedTuple):
    """One finished row: `pixels` [W] or [W, C], a copy that belongs to the caller, of the request's image number
    `image`. `stage` counts the priors of a pipeline; it is 0 for a single model."""

    image: int
    row: int
    pixels: NDArray[Any]
    stage: int = 0


class Delivery:
    """Rows lie in the arrays of the result, which are there from the start: a slow reader finds them there later, and
    nothing is kept for it. Wakers are called once, then forgotten; they take no lock and do not wait.

    The lock may be taken again by the thread that holds it: a signal handler, or a finalizer of the program, may cancel
    or close what it interrupts."""

    def __init__(self, pixels: Sequence[NDArray[Any]]) -> None:
        self.pixels = pixels
        self.ended = False
        self.value: Any = None
        self.error: PixelsnailError | None = None
        self.timing = Timing()
        self.home = Home()
        self._drawn: Seen = [np.zeros(len(array), np.int64) for array in pixels]
        self._lock = threading.RLock()
        self._row_wakers: list[Waker] = []
        self._end_wakers: list[Waker] = []

    def put(self, image: int, row: int, pixels: NDArray[Any], stage: int = 0) -> None:
        """A row was drawn. One that was there already, as of an image that is drawn again, changes nothing."""
        drawn = self._drawn[stage]
        if self.ended or row < drawn[image]:
            return
        self.pixels[stage][image, row] = pixels
        with self._lock:
            if self.timing.first_row is None:
                self.timing.first_row = time.monotonic()
            drawn[image] = row + 1
            wakers, self._row_wakers = self._row_wakers, []
        for wake in wakers:
            wake()

    def end(self, value: Any = None, error: PixelsnailError | None = None) -> bool:
        """The request is finished with this value, or failed with this error; False when it had ended before."""
        with self._lock:
            if self.ended:
                return False
            self.value, self.error, self.ended = value, error, True
            self.timing.ended = time.monotonic()
            wakers = self._row_wakers + self._end_wakers
            self._row_wakers, self._end_wakers = [], []
        for wake in wakers:
            wake()
        return True

    def start(self) -> Seen:
        """What a reader has seen at first: nothing."""
        return [np.zeros_like(drawn) for drawn in self._drawn]

    def fresh(self, seen: Seen, wake: Waker) -> list[Stretch] | None:
        """What was drawn beyond `seen`, which then counts it; None at the end. Where there is nothing yet, `wake` is
        called at the next row or the end."""
        with self._lock:
            self._row_wakers.append(wake)  # before the look: what comes from now on wakes
            found = []
            for stage, drawn in enumerate(self._drawn):
                for image in np.flatnonzero(drawn > seen[stage]).tolist():
                    found.append(Stretch(stage, image, int(seen[stage][image]), int(drawn[image])))
                seen[stage][:] = drawn
            if found or self.ended:
                self.forget(wake)
            return None if self.ended and not found else found

    def rows(self, stretches: Sequence[Stretch]) -> Iterator[Row]:
        """The rows of stretches, from the top."""
        for stage, image, first, end in stretches:
            for row in range(first, end):
                yield Row(image, row, self.pixels[stage][image, row].copy(), stage)

    def at_end(self, wake: Waker) -> bool:
        """Whether the request has ended; otherwise `wake` is called when it does."""
        with self._lock:
            self._end_wakers.append(wake)
            if self.ended:
                self.forget(wake)
            return self.ended

    def forget(self, wake: Waker) -> None:
        """Call `wake` no more."""
        with self._lock:
            for wakers in (self._row_wakers, self._end_wakers):
                if wake in wakers:
                    wakers.remove(wake)

    def outcome(self) -> Any:
        """The value; raises the error of a request that failed."""
        if self.error is not None:
            raise type(self.error)(*self.error.args)  # each time a new one: a trace would keep what its frames hold
        return self.value
