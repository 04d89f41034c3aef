"""Bodies of requests: read within limits of size, time, and of what all together hold."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from starlette.requests import Request

from pixelsnail_infer.runtime.serving.problem import Problem
from pixelsnail_infer.runtime.serving.settings import Settings

__all__ = ["Bodies"]


class Bodies:
    """Counts the bytes of all bodies in memory. Belongs to one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The body; its bytes count until the block is left. Raises `Problem`."""
        parts: list[bytes] = []
        size = 0
        try:
            self._check(request)
            with anyio.move_on_after(self._settings.body_seconds) as scope:
                async for part in request.stream():
                    size += len(part)
                    self.held += len(part)
                    parts.append(part)
                    self._bound(size)
            if scope.cancelled_caught:
                raise Problem("slow", f"The body was not there after {self._settings.body_seconds:g} s.")
            yield b"".join(parts)
        finally:
            self.held -= size

    def _check(self, request: Request) -> None:
        if request.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
            raise Problem("unsupported", "The body is compressed; send it as it is.")
        length = request.headers.get("content-length", "")
        if length.isdecimal():  # h11 has checked it
            self._bound(int(length))

    def _bound(self, size: int) -> None:
        if size > self._settings.most_body:
            raise Problem("too-large", f"The body has more than {self._settings.most_body} bytes, which is the limit.")
        if self.held > self._settings.most_bodies:
            raise Problem("busy", "Too many large requests are read at once.")
