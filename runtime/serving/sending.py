"""Answers on their way: in pieces, each of which the client has to take before the next one is made."""

from __future__ import annotations

from collections.abc import Callable

import anyio
from starlette.types import Message, Receive, Send

from pixelsnail_infer.runtime.serving.outcome import ClientGone, gone
from pixelsnail_infer.runtime.serving.service import Service

__all__ = ["PIECE", "RawHeaders", "Sender"]

PIECE = 1 << 16
RawHeaders = list[tuple[bytes, bytes]]


class Sender:
    """The `send` of one request, with `headers` on top of the answer's own. `abort` breaks the connection off; a server
    that has none leaves it at the end of the request.

    An answer ends with a message of its own, without bytes: the server lets it pass when the bytes before are gone, so
    that a request counts as unfinished until then. What waits here of large answers stands in `service.unsent`."""

    def __init__(
        self, send: Send, receive: Receive, abort: Callable[[], object] | None, service: Service, headers: RawHeaders
    ) -> None:
        self._send, self._receive, self._abort = send, receive, abort
        self._service, self._headers = service, headers
        self.status = 0

    async def __call__(self, message: Message) -> None:
        """Send one message of an answer. Raises `ClientGone` when the client took nothing for `stall_seconds`; then
        the connection is closed, where there is `abort`."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            await self._put({**message, "headers": [*message["headers"], *self._headers]})
            return
        body: bytes = message.get("body", b"")
        large = len(body) if len(body) > PIECE else 0
        self._service.unsent += large
        try:
            for at in range(0, len(body), PIECE):
                await self._put({"type": message["type"], "body": body[at : at + PIECE], "more_body": True})
        finally:
            self._service.unsent -= large
        if not message.get("more_body", False):
            await self._put({"type": message["type"], "body": b"", "more_body": False})

    async def _put(self, message: Message) -> None:
        seconds = self._service.settings.stall_seconds
        try:
            with anyio.fail_after(seconds):
                await self._send(message)
        except TimeoutError:
            if self._abort is not None:
                self._abort()
                await gone(self._receive)  # the server takes an unfinished answer for a mistake until it knows of it
            raise ClientGone(f"The client took nothing for {seconds:g} s.") from None
