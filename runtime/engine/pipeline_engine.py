"""The engine of a pipeline: one level for each prior, and images that move from level to level as they finish."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from numpy.typing import ArrayLike

from pixelsnail_infer.distributions import blank_images, image_bytes
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.runtime.engine.course import Course
from pixelsnail_infer.runtime.engine.decoding import Decoding
from pixelsnail_infer.runtime.engine.delivery import Delivery
from pixelsnail_infer.runtime.engine.engine import MEMORY, QUEUE
from pixelsnail_infer.runtime.engine.level import Level
from pixelsnail_infer.runtime.engine.life import Life
from pixelsnail_infer.runtime.engine.limits import expiry, make_limits, priority_of
from pixelsnail_infer.runtime.engine.stats import Stats
from pixelsnail_infer.runtime.engine.ticket import Ticket
from pixelsnail_infer.runtime.pipeline.generated import Generated
from pixelsnail_infer.runtime.pipeline.pipeline import Pipeline
from pixelsnail_infer.runtime.pipeline.wiring import Wiring
from pixelsnail_infer.runtime.requests.conditions import clashing_name
from pixelsnail_infer.runtime.requests.memory import memory_told
from pixelsnail_infer.runtime.requests.request import count

__all__ = ["PipelineEngine"]


class PipelineEngine(Life):
    """Draws many requests through all stages of a pipeline at once; each result is what `Pipeline.generate` gives for
    the same arguments.

    Every prior has a thread, slots and a schedule of its own, and so has the decoder a thread. An image goes on to the
    next stage when it is finished, whatever becomes of the others of its request. The arguments are as for `Engine`:
    `slots` and `ladder` count for every prior, `queue` and `memory` for the pipeline as a whole. The pipeline may be
    used beside the engine; it must not be closed before it.
    """

    @memory_told
    def __init__(
        self,
        pipeline: Pipeline,
        *,
        slots: int = 16,
        ladder: Sequence[int] | None = None,
        queue: int = QUEUE,
        memory: int = MEMORY,
        filters: bool = True,
        completion: bool = True,
    ) -> None:
        if pipeline.denoisers:
            raise RequestError("This pipeline has denoisers, which engines do not run; call its generate.")
        if clash := clashing_name(pipeline.wiring.conditions, self.submit):
            raise RequestError(f"The condition {clash!r} has the name of an argument of submit; export it renamed.")
        self._limits = make_limits(slots, ladder, queue, memory, filters, completion)
        self._pipeline = pipeline
        links = pipeline.wiring.links
        self._levels: list[Level] = []
        try:
            for prior, feeds in zip(pipeline.priors, links, strict=True):
                self._levels.append(Level(prior, self._limits, feeds))
            self._decoding = None if pipeline.decoder is None else Decoding(pipeline.decoder)
        except BaseException:
            for level in self._levels:
                level.loop.close(drain=False)
            raise
        self._loops = [level.loop for level in self._levels]
        super().__init__([*self._loops, *([] if self._decoding is None else [self._decoding])])

    @property
    def wiring(self) -> Wiring:
        """What feeds what, which conditions the caller gives, and which images are drawn and taken."""
        return self._pipeline.wiring

    @property
    def buffer_bytes(self) -> int:
        """What all buffers of the priors take at most, in bytes; they stay the same. Requests hold at most `memory`
        more."""
        return sum(level.bytes for level in self._levels)

    def submit(
        self,
        n: int = 1,
        *,
        seed: int | Sequence[int] = 0,
        temperature: Any = 1.0,
        top_k: Any = None,
        top_p: Any = None,
        image: ArrayLike | None = None,
        keep: Sequence[int] | None = None,
        priority: int = 0,
        deadline: float | None = None,
        **conditions: Any,
    ) -> Ticket[Generated]:
        """Ask for n images; returns at once, with `image` when it is encoded. The ticket's result is what
        `Pipeline.generate` returns for the same arguments; a `Row`'s `stage` says which prior drew it. `priority` and
        `deadline`, and what is raised, are as for `Engine.submit`.
        """
        n = count(n, "n")
        decoder = self._pipeline.decoder
        decoded = 0 if decoder is None else n * decoder.result_bytes
        least = n * sum(image_bytes(level.manifest) for level in self._levels) + decoded
        self._limits.expect_room(least)
        self._expect_open()
        with self._loops[-1].place(least) as place:  # before anything of the request's size is made
            requests = self._pipeline.requests(
                n, seed=seed, temperature=temperature, top_k=top_k, top_p=top_p, image=image, keep=keep,
                conditions=conditions,
            )  # fmt: skip
            delivery = Delivery([blank_images(level.manifest, n) for level in self._levels])
            images = None if decoder is None else decoder.blank(n)
            course = Course(delivery, self._loops, self._decoding, images, self._pipeline.wiring.names)
            expires, rank = expiry(deadline, delivery.timing.submitted), priority_of(priority)
            for stage, (level, request) in enumerate(zip(self._levels, requests, strict=True)):
                course.add(level.job(request, delivery, rank, expires, course.image_done, course.leave, stage))
            self._limits.expect_room(course.hold(decoded))
            course.enter(place)
        return Ticket(delivery, partial(self._drop, course))

    def _drop(self, course: Course) -> None:
        """A request was cancelled. (The ticket holds this engine, so that it is not forgotten.)"""
        course.leave()

    def stats(self) -> tuple[Stats, ...]:
        """What each prior's level has at hand and did so far; the last one's limits are those of the pipeline."""
        self._home.expect_here()
        return tuple(loop.stats() for loop in self._loops)
