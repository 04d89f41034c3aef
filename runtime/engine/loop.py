"""The loop: one thread that draws row after row of whatever images are in the slots.

Between two rows finished and given-up images leave and waiting ones join.

When the backend fails at a row, the states of all slots are worth nothing. After its first failure an image is drawn
again from its first row, beside others as before; after its second one alone, while others wait; and when that fails,
too, its request fails. So an image that always fails takes no other with it. Rows that were delivered before are drawn
again the same, and are not delivered twice. A failure as an image joins counts in the same way, for that image only.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

from numpy.typing import NDArray

from pixelsnail_infer.errors import DeadlineExpired, EngineClosed, EngineError, PixelsnailError
from pixelsnail_infer.runtime.drawing.prologue import digest_of
from pixelsnail_infer.runtime.engine.job import Image, Job
from pixelsnail_infer.runtime.engine.line import Line, Place
from pixelsnail_infer.runtime.engine.log import report
from pixelsnail_infer.runtime.engine.slots import Slots
from pixelsnail_infer.runtime.engine.stats import Stats
from pixelsnail_infer.runtime.engine.worker import Worker, closed

__all__ = ["Loop"]

TOGETHER = 2
"""How often an image is drawn beside others; after as many failures it is drawn alone, once."""

_SMOOTH = 0.1  # share of the last row in the mean time of a row


class Loop(Worker):
    """Its thread draws, and the slots belong to it. Public methods may be called by any thread."""

    def __init__(self, slots: Slots, line: Line, height: int) -> None:
        super().__init__("pixelsnail-engine")
        self._slots, self._line, self._height = slots, line, height
        self._lock = threading.RLock()
        self._again: deque[Image] = deque()  # failed, to be drawn beside others
        self._alone: deque[Image] = deque()
        self._start()

    def expect_open(self) -> None:
        """Raises `EngineClosed`, and counts a refused request."""
        with self._lock:
            try:
                super().expect_open()
            except EngineClosed:
                self._line.stats.refused += 1
                raise

    @contextmanager
    def place(self, size: int) -> Iterator[Place]:
        """A place for a request of at least `size` bytes while it is checked, given back at the end of the block unless
        a job took it. Raises `EngineClosed` or `QueueFull`."""
        with self._lock:
            self.expect_open()
            place = self._line.place(size, self._height, len(self._slots.live))
        try:
            yield place
        finally:
            with self._lock:
                self._line.give_back(place)

    def enter(self, job: Job, place: Place | None = None) -> None:
        """Accept a job. Raises `EngineClosed`, and with a `place`, without which nothing is limited, `QueueFull`."""
        with self._lock:
            self.expect_open()
            self._line.enter(job, self._height, place)
        self._bell.ring()

    def feed(self, job: Job, image: int) -> None:
        """An image of an accepted job may join."""
        job.digests[image] = digest_of(job.request.conditions.values(), image)
        with self._lock:
            self._line.feed(job, image)
        self._bell.ring()

    def remove(self, job: Job) -> None:
        """A job has ended elsewhere; its images leave at the next row."""
        with self._lock:
            self._line.remove(job)
        self._bell.ring()

    def withdraw(self, job: Job) -> None:
        """A job was refused elsewhere: as if it had never entered."""
        with self._lock:
            self._line.withdraw(job)
        self._bell.ring()

    def stats(self) -> Stats:
        """A snapshot."""
        with self._lock:
            return copy(self._line.snapshot(self._slots.live))

    def _work(self) -> None:
        while (joining := self._boundary()) is not None:
            for image in joining:
                self._join(image)
            if self._slots.live:
                self._draw()

    def _answer(self, reason: PixelsnailError) -> None:
        for job in list(self._line.jobs):
            job.delivery.end(error=reason)

    def _give_up_all(self, reason: PixelsnailError) -> None:
        with self._lock:
            jobs = list(self._line.jobs)
        self._give_up(jobs, reason)

    def _release(self) -> None:
        with self._lock:
            self._slots.release()

    def _boundary(self) -> list[Image] | None:
        """What happens between two rows: the images that join, or None at the end. Waits while there is nothing."""
        while True:
            if self._dropping:
                self._give_up_all(closed())
            with self._lock:
                expired = self._line.expired()
            self._give_up(expired, DeadlineExpired("The request was not finished within its deadline."))
            with self._lock:
                for image in self._slots.live:
                    if image.job.delivery.ended:
                        self._slots.leave(image)
                joining = self._next()
                if joining or self._slots.live:
                    return joining
                if self._closing and not self._line.jobs:
                    return None
                until = self._line.until_deadline()
            self._bell.wait(until)

    def _next(self) -> list[Image]:
        """The images that join: failed ones before others; one that is to be drawn alone when the slots are empty."""
        for failed in (self._again, self._alone):
            for image in [image for image in failed if image.job.delivery.ended]:
                failed.remove(image)
        if any(image.failures >= TOGETHER for image in self._slots.live):
            return []
        again = [self._again.popleft() for _ in range(min(len(self._again), self._slots.free))]
        if self._alone:
            return again or ([] if self._slots.live else [self._alone.popleft()])
        return again + self._line.take(self._slots.free - len(again))

    def _join(self, image: Image) -> None:
        image.row = image.job.leading[image.index]
        self._deliver([(image, row, image.job.request.given[image.index, row]) for row in range(image.row)])
        try:
            if image.row < self._height:
                self._slots.join(image)
        except Exception as error:
            self._failed([image], error)
        else:
            self._finish([image])

    def _draw(self) -> None:
        started = time.monotonic()
        try:
            size, drawn = self._slots.draw()
        except Exception as error:
            self._failed(self._slots.clear(), error)
            return
        seconds = time.monotonic() - started
        self._deliver([(image, image.row, pixels) for image, pixels in drawn])
        with self._lock:
            stats, mean = self._line.stats, self._line.row_seconds
            self._line.row_seconds = seconds if mean is None else mean + _SMOOTH * (seconds - mean)
            stats.batches += 1
            stats.batch_seconds += seconds
            stats.rows += len(drawn)
            stats.slot_rows += size
        for image, _ in drawn:
            image.row += 1
        self._finish([image for image, _ in drawn])

    def _deliver(self, rows: Sequence[tuple[Image, int, NDArray[Any]]]) -> None:
        for image, row, pixels in rows:
            delivery = image.job.delivery
            first = delivery.timing.first_row is None
            delivery.put(image.index, row, pixels, image.job.stage)
            if first and delivery.timing.first_row is not None:
                with self._lock:
                    self._line.stats.seen += 1
                    self._line.stats.first_row_seconds += delivery.timing.first_row - delivery.timing.submitted

    def _finish(self, images: Sequence[Image]) -> None:
        """Those of the images that have all rows leave."""
        whole = [image for image in images if image.row == self._height]
        with self._lock:
            for image in whole:
                if image in self._slots.images:
                    self._slots.leave(image)
                image.job.left -= 1
                self._line.stats.images += 1
        for image in whole:
            image.job.on_image(image.job, image.index)

    def _failed(self, images: Sequence[Image], error: Exception) -> None:
        """Drawing these images failed: see the top of this file."""
        with self._lock:
            self._line.stats.failures += 1
        reason = EngineError(str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}")
        for image in images:
            image.failures += 1
            if image.failures > TOGETHER:
                self._give_up([image.job], reason)
            else:
                (self._alone if image.failures == TOGETHER else self._again).append(image)
        trace = None if isinstance(error, EngineError) else error
        report(logging.WARNING, "drawing %d images failed: %s", len(images), error, error=trace)

    def _give_up(self, jobs: Sequence[Job], reason: PixelsnailError) -> None:
        for job in jobs:
            job.delivery.end(error=reason)
            with self._lock:
                self._line.remove(job)
            job.on_failure()
