"""A client's connection, as uvicorn has it, with what the service needs of its transport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from pixelsnail_infer.runtime.serving.sending import RawHeaders

__all__ = ["Connection"]

Unreadable = Callable[[str], tuple[RawHeaders, bytes]]


class Connection(H11Protocol):
    """Requests find `abort` in their state. A `send` waits until the system has all bytes of the one before, so that
    no more than a piece of an answer waits in the transport. `unreadable` makes the answer to what is no HTTP, for the
    address of the client: headers and body."""

    def __init__(self, unreadable: Unreadable, **options: Any) -> None:
        super().__init__(**options)
        self._unreadable = unreadable

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by asyncio."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)
        self.app_state = {**self.app_state, "abort": transport.abort}

    def send_400_response(self, msg: str) -> None:
        """Called for what is no HTTP: a problem document like the others. In the middle of an answer there is no place
        for another one."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers, body = self._unreadable(self.client[0] if self.client else "")
            for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
