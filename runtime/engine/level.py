"""One model of an engine: its slots, its loop, and how a checked request becomes a job of it."""

from __future__ import annotations

from collections.abc import Callable

from pixelsnail_infer.distributions import distribution_of, image_bytes
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.runtime.drawing.batch import buffer_bytes
from pixelsnail_infer.runtime.drawing.sampler import Sampler
from pixelsnail_infer.runtime.drawing.scoring import score_bytes
from pixelsnail_infer.runtime.drawing.states import state_bytes
from pixelsnail_infer.runtime.engine.delivery import Delivery
from pixelsnail_infer.runtime.engine.job import Job, digests, leading_rows, owned, owned_bytes
from pixelsnail_infer.runtime.engine.limits import Limits
from pixelsnail_infer.runtime.engine.line import Line
from pixelsnail_infer.runtime.engine.loop import Loop
from pixelsnail_infer.runtime.engine.slots import Slots
from pixelsnail_infer.runtime.requests.memory import check_fits
from pixelsnail_infer.runtime.requests.request import Request

__all__ = ["Level"]


class Level:
    """Starts a thread. `feeds` are the conditions that other levels give."""

    def __init__(self, sampler: Sampler, limits: Limits, feeds: dict[str, int] | None = None) -> None:
        self.manifest = manifest = sampler.manifest
        self._distribution, self._limits, self._feeds = distribution_of(manifest), limits, feeds or {}
        self._filters = limits.filters and self._distribution.filters
        self._scored = limits.completion and "score" in manifest.parts
        self.bytes = state_bytes(manifest, limits.slots) + buffer_bytes(manifest, limits.slots)
        self.bytes += buffer_bytes(manifest, 1) + (score_bytes(manifest, 1) if self._scored else 0)
        check_fits(self.bytes, f"An engine of {limits.slots} slots", "give fewer slots")
        backend, graphs = sampler.loaded([*["filtered"] * self._filters, *["score"] * self._scored])
        slots = Slots(manifest, backend, graphs, limits.ladder, filters=self._filters,
                      completion=self._scored)  # fmt: skip
        self.ladder = slots.ladder
        self.loop = Loop(slots, Line(limits.slots, limits.queue, limits.memory), manifest.height)

    def job(
        self,
        request: Request,
        delivery: Delivery,
        priority: int,
        expires: float | None,
        on_image: Callable[[Job, int], object],
        on_failure: Callable[[], object],
        stage: int = 0,
    ) -> Job:
        """A checked request as the loop takes it, with copies of the caller's arrays; none of its images is ready.
        Raises `RequestError` where it needs what this engine was made without."""
        if self._distribution.filters and not self._filters and request.filtered(self._distribution.parameters):
            raise RequestError("This engine was made with filters=False; leave top_k and top_p out.")
        known = bool(request.use_given.any())
        if known and not self._limits.completion:
            raise RequestError("This engine was made with completion=False; leave known pixels out.")
        held = owned(request)
        leading = leading_rows(held) if known and self._scored else [0] * held.n
        size = owned_bytes(held) + held.n * image_bytes(self.manifest)
        held.conditions.update({name: delivery.pixels[source] for name, source in self._feeds.items()})
        each = [b""] * held.n if self._feeds else digests(held.conditions, held.n)
        return Job(held, delivery, priority, expires, size, leading, on_image, on_failure, stage, each)
