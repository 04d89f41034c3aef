"""The way of one request through the levels of a pipeline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.runtime.engine.decoding import Decoding, Undecoded
from pixelsnail_infer.runtime.engine.delivery import Delivery
from pixelsnail_infer.runtime.engine.job import Job
from pixelsnail_infer.runtime.engine.line import Place
from pixelsnail_infer.runtime.engine.loop import Loop
from pixelsnail_infer.runtime.pipeline.generated import generated

__all__ = ["Course"]


class Course:
    """A job for every level, from the start, so that a request that was accepted finds room in all of them. The last
    one holds the bytes of all, stays until all is decoded, and is the one that limits count."""

    def __init__(
        self,
        delivery: Delivery,
        loops: Sequence[Loop],
        decoding: Decoding | None,
        images: NDArray[np.float32] | None,
        names: tuple[str, ...],
    ) -> None:
        self._delivery, self._loops, self._decoding = delivery, loops, decoding
        self._images, self._names = images, names
        self._jobs: list[Job] = []
        self._undecoded = 0  # of them, the decoder's thread counts

    def add(self, job: Job) -> None:
        """The job of the next level."""
        self._jobs.append(job)

    def hold(self, more: int) -> int:
        """Count the bytes of all jobs, and `more`, in the last one; returns them."""
        size = sum(job.size for job in self._jobs) + more
        for job in self._jobs:
            job.size = 0
        self._jobs[-1].size = size
        return size

    def enter(self, place: Place) -> None:
        """Enter all levels, the last one first: it alone is limited, and `place` is its. Raises `QueueFull` or
        `EngineClosed`."""
        jobs = self._jobs
        jobs[0].ready.extend(range(jobs[0].request.n))
        self._undecoded = jobs[0].request.n
        try:
            for loop, job in reversed(list(zip(self._loops, jobs, strict=True))):
                loop.enter(job, place if job is jobs[-1] else None)
        except BaseException:
            for loop, job in zip(self._loops, jobs, strict=True):
                loop.withdraw(job)
                job.detach()
            raise
        if self._delivery.ended:  # a level gave it up before it had entered all
            self.leave()

    def leave(self) -> None:
        """The request has ended: leave all levels. May be called again."""
        for loop, job in zip(self._loops, self._jobs, strict=True):
            loop.remove(job)
            job.detach()

    def image_done(self, job: Job, image: int) -> None:
        """A level has finished an image: on to the next."""
        jobs = self._jobs
        if job is not jobs[-1]:
            self._loops[job.stage + 1].feed(jobs[job.stage + 1], image)
        elif self._decoding is None or self._images is None:
            self._end(job.left)
        else:
            self._decoding.add(Undecoded(self._delivery, self._images, image, self._decoded, self._failed))

    def _decoded(self) -> None:
        self._undecoded -= 1
        self._end(self._undecoded)

    def _end(self, left: int) -> None:
        if not left:
            self.leave()
            self._delivery.end(generated(self._delivery.pixels, self._names, self._images))

    def _failed(self, error: PixelsnailError) -> None:
        self._delivery.end(error=error)
        self.leave()
