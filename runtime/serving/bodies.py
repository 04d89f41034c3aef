"""Bodies of requests: read within limits of size, time, and of what all together hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
from starlette.requests import Request

from pixelsnail_infer.runtime.serving.problem import Problem
from pixelsnail_infer.runtime.serving.settings import Settings
from pixelsnail_infer.runtime.serving.work import computed

__all__ = ["Bodies"]

T = TypeVar("T")
_LARGE = 1 << 20  # bytes; what they say may take many times as much while it is taken apart


class Bodies:
    """Counts the bytes of all bodies in memory. Belongs to one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._one_large = asyncio.Lock()
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
                what = f"The body was not there after {self._settings.body_seconds:g} s."
                raise Problem("slow", what, unread=True)
            body = b"".join(parts)
            parts.clear()
            yield body
        finally:
            self.held -= size

    async def understood(self, read: Callable[[], T], size: int) -> T:
        """What `read` makes of a body of `size` bytes; raises what it raises. Large ones are read one at a time."""
        if size <= _LARGE:
            return await computed(read, size)
        async with self._one_large:
            return await computed(read, size)

    def _check(self, request: Request) -> None:
        if request.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
            raise Problem("unsupported", "The body is compressed; send it as it is.", unread=True)
        length = request.headers.get("content-length", "")
        if length.isdecimal():  # h11 has checked it
            self._bound(int(length))

    def _bound(self, size: int) -> None:
        if size > self._settings.most_body:
            what = f"The body has more than {self._settings.most_body} bytes, which is the limit."
            raise Problem("too-large", what, unread=True)
        if self.held > self._settings.most_bodies:
            raise Problem("busy", "Too many large requests are read at once.", unread=True)
