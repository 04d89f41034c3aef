"""The engine of one model: requests from any thread, drawn together as slots become free."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from numpy.typing import ArrayLike, NDArray

from pixelsnail_infer.distributions import blank_images, image_bytes
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime.drawing.sampler import Sampler
from pixelsnail_infer.runtime.engine.delivery import Delivery
from pixelsnail_infer.runtime.engine.job import Job
from pixelsnail_infer.runtime.engine.level import Level
from pixelsnail_infer.runtime.engine.life import Life
from pixelsnail_infer.runtime.engine.limits import expiry, make_limits, priority_of
from pixelsnail_infer.runtime.engine.loop import Loop
from pixelsnail_infer.runtime.engine.stats import Stats
from pixelsnail_infer.runtime.engine.ticket import Ticket
from pixelsnail_infer.runtime.requests.conditions import clashing_name
from pixelsnail_infer.runtime.requests.memory import memory_told
from pixelsnail_infer.runtime.requests.request import count, make_request

__all__ = ["MEMORY", "QUEUE", "Engine"]

QUEUE = 256
MEMORY = 256 << 20


class Engine(Life):
    """Draws many requests at once. Images join and leave the batch at every row; each is the one that `Sampler.sample`
    draws for the same arguments, whatever else runs.

    One thread draws; any thread, and any asyncio loop, may call. The engine has buffers of its own, of a size that is
    fixed here; the sampler may be used beside it, and may be closed. After a fork the child needs an engine of its own.

    `slots` images are drawn at once, in the smallest batch of `ladder` that holds them: sizes up to `slots`, which is
    always one of them; by default 1, 2, 3, 4, 6, 8, 12, 16, … A backend on a GPU always runs the largest. At most
    `queue` requests wait for slots, and all unfinished requests together may hold `memory` bytes of conditions, known
    pixels and results. Without `filters` top-k and top-p are refused, without `completion` known pixels: then their
    graphs are not loaded.

    Raises `RequestError` when an argument is wrong or the buffers do not fit into memory, and what `load` raises.
    """

    @memory_told
    def __init__(
        self,
        sampler: Sampler,
        *,
        slots: int = 16,
        ladder: Sequence[int] | None = None,
        queue: int = QUEUE,
        memory: int = MEMORY,
        filters: bool = True,
        completion: bool = True,
    ) -> None:
        if not isinstance(sampler, Sampler):
            raise RequestError(f"The engine was given a {type(sampler).__name__}, expected a Sampler, as load gives it "
                               "of a prior.")  # fmt: skip
        if clash := clashing_name(sampler.manifest.conditions, self.submit):
            raise RequestError(f"The condition {clash!r} has the name of an argument of submit; export it renamed.")
        self._limits = make_limits(slots, ladder, queue, memory, filters, completion)
        self._level = Level(sampler, self._limits)
        super().__init__([self._level.loop])

    @property
    def manifest(self) -> Manifest:
        """The frozen description of the model."""
        return self._level.manifest

    @property
    def ladder(self) -> tuple[int, ...]:
        """The batch sizes that are drawn."""
        return self._level.ladder

    @property
    def buffer_bytes(self) -> int:
        """What all buffers take at most, in bytes; they stay the same. Requests hold at most `memory` bytes more."""
        return self._level.bytes

    def submit(
        self,
        n: int = 1,
        *,
        seed: int | Sequence[int] = 0,
        temperature: ArrayLike = 1.0,
        top_k: ArrayLike | None = None,
        top_p: ArrayLike | None = None,
        known: ArrayLike | None = None,
        known_mask: ArrayLike | None = None,
        priority: int = 0,
        deadline: float | None = None,
        **conditions: Any,
    ) -> Ticket[NDArray[Any]]:
        """Ask for n images; returns at once. The ticket's result is the array that `Sampler.sample` returns for the
        same arguments, which are explained there; arrays are copied.

        A request of higher `priority` gets free slots before all of lower; those of one priority take turns, image by
        image, in the order in which they came. After `deadline` seconds an unfinished request fails with
        `DeadlineExpired`.

        Raises `RequestError` when an argument is wrong, `QueueFull` when too much waits, `EngineClosed` after `close`.
        """
        self._home.expect_here()
        level = self._level
        least = count(n, "n") * image_bytes(level.manifest)
        self._limits.expect_room(least)
        with level.loop.place(least) as place:  # before anything of the request's size is made
            request = make_request(
                level.manifest, n, seed=seed, temperature=temperature, top_k=top_k, top_p=top_p, known=known,
                known_mask=known_mask, conditions=conditions,
            )  # fmt: skip
            delivery = Delivery([blank_images(level.manifest, request.n)])
            expires, rank = expiry(deadline, delivery.timing.submitted), priority_of(priority)
            job = level.job(request, delivery, rank, expires, partial(_image_done, level.loop), _nothing)
            self._limits.expect_room(job.size)
            job.ready.extend(range(request.n))
            level.loop.enter(job, place)
        return Ticket(delivery, partial(self._drop, job))

    def _drop(self, job: Job) -> None:
        """A request was cancelled. (The ticket holds this engine, so that it is not forgotten.)"""
        self._level.loop.remove(job)

    def stats(self) -> Stats:
        """What the engine has at hand and did so far; cheap."""
        self._home.expect_here()
        return self._level.loop.stats()


def _image_done(loop: Loop, job: Job, image: int) -> None:
    if not job.left:
        loop.remove(job)
        job.delivery.end(job.delivery.pixels[0])


def _nothing() -> None:
    """A failure concerns no other level."""
