"""The requests that an engine has accepted and not finished: who waits, within which limits, until when."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from pixelsnail_infer.errors import DeadlineExpired, EngineClosed, QueueFull, RequestCancelled
from pixelsnail_infer.runtime.engine.job import Image, Job
from pixelsnail_infer.runtime.engine.schedule import choose
from pixelsnail_infer.runtime.engine.stats import Stats

__all__ = ["Line", "Place"]


@dataclass(slots=True, eq=False)
class Place:
    """What is held for a request that is still being checked: a place among those that wait, and `size` bytes."""

    size: int
    held: bool = True


class Line:
    """Plain Python, without lock or thread: `loop.Loop` guards it. `stats` counts what happens here."""

    def __init__(self, slots: int, queue: int, memory: int) -> None:
        self.stats = Stats(slots, memory)
        self.jobs: set[Job] = set()
        self.row_seconds: float | None = None
        self._queue = queue
        self._line: list[Job] = []  # with images that may join
        self._waiting = 0  # jobs with images that have no slot yet
        self._bytes = 0
        self._earliest = math.inf  # no deadline is before it

    def place(self, size: int, rows: int, live: int) -> Place:
        """Hold a place and `size` bytes for a request of images of `rows` rows, with `live` images in slots, or raise
        `QueueFull`."""
        if self._waiting - (self.stats.slots - live) >= self._queue:
            self._refuse(f"{self._queue} requests wait, which is the limit", "queue", rows)
        self._expect_memory(self._bytes + size, rows)
        self._waiting += 1
        self._bytes += size
        return Place(size)

    def give_back(self, place: Place) -> None:
        """A place is not used; one that a job took stays its own."""
        if place.held:
            place.held = False
            self._waiting -= 1
            self._bytes -= place.size

    def enter(self, job: Job, rows: int, place: Place | None = None) -> None:
        """Accept a job, which takes its `place`; raises `QueueFull` if it needs more bytes than are free. Without a
        place nothing is limited."""
        if place is not None:
            self._expect_memory(self._bytes - place.size + job.size, rows)
            self.give_back(place)
        self.jobs.add(job)
        self._bytes += job.size
        self._waiting += 1
        if job.ready:
            self._line.append(job)
        if job.expires is not None:
            self._earliest = min(self._earliest, job.expires)

    def feed(self, job: Job, image: int) -> None:
        """An image of a job may join from now on."""
        if job in self.jobs:
            job.ready.append(image)
            if len(job.ready) == 1:
                self._line.append(job)

    def take(self, free: int) -> list[Image]:
        """The next images for `free` slots."""
        if not self._line or free < 1:
            return []
        chosen, self._line = choose(self._line, free)
        images = []
        for job in chosen:
            index = job.ready.popleft()
            images.append(Image(job, index))
            job.unplaced -= 1
            self._waiting -= job.unplaced == 0
            if job.delivery.timing.begun is None:
                now = job.delivery.timing.begun = time.monotonic()
                self.stats.begun += 1
                self.stats.wait_seconds += now - job.delivery.timing.submitted
        return images

    def withdraw(self, job: Job) -> bool:
        """A job leaves, and counts as nothing: whether it was here."""
        if job not in self.jobs:
            return False
        self.jobs.remove(job)
        self._bytes -= job.size
        self._waiting -= job.unplaced > 0
        if job in self._line:
            self._line.remove(job)
        return True

    def remove(self, job: Job) -> None:
        """A job is finished, has failed or was given up; its outcome is counted."""
        if not self.withdraw(job):
            return
        error, stats = job.delivery.error, self.stats
        stats.cancelled += isinstance(error, (RequestCancelled, EngineClosed))
        stats.expired += isinstance(error, DeadlineExpired)
        stats.failed += error is not None and not isinstance(error, (RequestCancelled, EngineClosed, DeadlineExpired))
        stats.done += error is None

    def expired(self) -> list[Job]:
        """The jobs whose deadline is over."""
        if (now := time.monotonic()) < self._earliest:
            return []
        self._earliest = self._next_deadline(now)
        return [job for job in self.jobs if job.expires is not None and job.expires <= now]

    def until_deadline(self) -> float | None:
        """Seconds until the earliest deadline of the jobs that are here; None where there is none."""
        self._earliest = self._next_deadline(-math.inf)
        return None if math.isinf(self._earliest) else max(self._earliest - time.monotonic(), 0.0)

    def snapshot(self, live: Sequence[Image]) -> Stats:
        """The stats, with what is at hand."""
        stats = self.stats
        stats.live, stats.waiting, stats.held_bytes = len(live), self._waiting, self._bytes
        stats.waiting_images = sum(job.unplaced for job in self.jobs)
        return stats

    def _next_deadline(self, after: float) -> float:
        deadlines = (job.expires for job in self.jobs if job.expires is not None and job.expires > after)
        return min(deadlines, default=math.inf)

    def _expect_memory(self, held: int, rows: int) -> None:
        if held > (most := self.stats.memory):
            self._refuse(f"Unfinished requests would hold {held} bytes, and the limit is {most}", "memory", rows)

    def _refuse(self, what: str, limit: str, rows: int) -> NoReturn:
        self.stats.refused += 1
        left = sum(job.unplaced for job in self.jobs) * rows / self.stats.slots
        wait = None if self.row_seconds is None else left * self.row_seconds
        about = "not known yet" if wait is None else f"about {wait:.2g} s"
        raise QueueFull(f"{what}; what waits is started after a time that is {about}: try again then.", limit, wait)
