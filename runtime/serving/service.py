"""The state of a service: its models, in which phase of its life it is, and who streams from it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pixelsnail_infer.runtime.serving.bodies import Bodies
from pixelsnail_infer.runtime.serving.metrics import Metrics
from pixelsnail_infer.runtime.serving.problem import Problem
from pixelsnail_infer.runtime.serving.served import Served
from pixelsnail_infer.runtime.serving.settings import Settings

__all__ = ["Service"]

_TICK = 0.05


class Service:
    """Starts without models; `open` makes it ready, and `drain` ends it. Its event loop alone may call it, except for
    `open`. `unsent` are the bytes of large answers that clients have not taken yet."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.models: dict[str, Served] = {}
        self.phase = "starting"
        self.metrics = Metrics(self.models)
        self.bodies = Bodies(settings)
        self.begun = time.time()
        self.unsent = 0
        self._active = 0
        self._streams: Counter[str] = Counter()

    def open(self, models: Mapping[str, Served]) -> None:
        """Answer requests to these models from now on."""
        self.models.update(models)
        self.phase = "ready"

    def expect_ready(self) -> None:
        """Raise `Problem` unless requests are taken."""
        if self.phase != "ready":
            raise Problem("unavailable", f"The service is {self.phase}.")

    def expect_room(self) -> None:
        """Raise `Problem` unless images may be drawn: not while there are answers enough that nobody takes."""
        self.expect_ready()
        if self.unsent > self.settings.most_unsent:
            raise Problem("busy", f"Clients have yet to take {self.unsent} bytes of answers; try again then.")

    @contextmanager
    def working(self) -> Iterator[None]:
        """A request, from its head to the last byte of its answer: `drain` waits for it."""
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1

    def enter_stream(self, client: str) -> None:
        """A client wants one more stream. Raises `Problem` when it has too many."""
        if self._streams[client] >= self.settings.streams:
            raise Problem("busy", f"You have {self.settings.streams} streams open, which is the limit; end one.")
        self._streams[client] += 1

    def leave_stream(self, client: str) -> None:
        """A stream has ended."""
        self._streams[client] -= 1
        if not self._streams[client]:
            del self._streams[client]

    async def drain(self, grace: float, hurry: asyncio.Event) -> bool:
        """Take no more requests; wait until all are answered, for at most `grace` seconds and until `hurry` is set.
        What is left then is given up. Whether nothing was."""
        self.phase = "draining"
        ends = time.monotonic() + grace
        while self._active and time.monotonic() < ends and not hurry.is_set():
            await asyncio.sleep(_TICK)
        drained = not self._active
        for served in self.models.values():
            await asyncio.to_thread(served.close)
        return drained
