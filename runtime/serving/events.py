"""Rows as they are drawn, by server-sent events."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pixelsnail_infer.runtime.engine.ticket import Ticket
from pixelsnail_infer.runtime.serving.answer import EVENTS, picture
from pixelsnail_infer.runtime.serving.order import Order
from pixelsnail_infer.runtime.serving.outcome import ClientGone, while_there
from pixelsnail_infer.runtime.serving.problem import problem_of

__all__ = ["RowStream"]

Ended = Callable[[Exception | None], object]


class RowStream(Response):
    """`start`, then a `row` for each, of a pipeline an `image` for each, then `end` or `error`. The request is
    cancelled when the client goes away; `ended` is called once, with the error of a request that failed."""

    media_type = EVENTS

    def __init__(self, order: Order, ticket: Ticket[Any], request_id: str, *, ping: float, ended: Ended) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._order, self._ticket, self._id = order, ticket, request_id
        self._ping, self._ended = ping, ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end. Raises `ClientGone` when the client is gone first."""
        error: Exception | None = None
        try:
            error = await while_there(self._send(send), receive)
        finally:
            self._ticket.cancel()
            self._ended(error)

    async def _send(self, send: Send) -> Exception | None:
        """Everything; the error of a request that failed."""
        async def put(data: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": more})

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            await put(_event("start", self._start()))
            started = time.monotonic()
            async for data in _with_pings(self._parts(), self._ping):
                await put(data)
            await put(_event("end", {"n": self._order.n, "seconds": round(time.monotonic() - started, 6)}), more=False)
        except ClientGone:  # there is no way to tell it
            raise
        except Exception as error:
            await put(_event("error", problem_of(error).document(self._id)), more=False)
            return error
        return None

    def _start(self) -> dict[str, Any]:
        served = self._order.served
        return {"request_id": self._id, "model": served.name, "n": self._order.n, "shape": list(served.image_shape),
                "stages": served.stages, "seed": self._order.seed}  # fmt: skip

    async def _parts(self) -> AsyncIterator[bytes]:
        """The rows, and the pictures that a pipeline makes of them."""
        async for row in self._ticket:
            told = {"image": row.image, "row": row.row, "stage": row.stage, "pixels": row.pixels.tolist()}
            yield _event("row", told)
        if self._order.served.is_pipeline:
            images = self._order.served.result(await self._ticket)
            for k in range(len(images)):
                png = await asyncio.to_thread(picture, images[k], self._order)
                yield _event("image", {"image": k, "png": base64.b64encode(png).decode()})


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


async def _with_pings(parts: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    """The parts, and a comment wherever none comes for so long: proxies close silent connections."""
    waiting: asyncio.Task[bytes | None] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(_next(parts))
            done, _ = await asyncio.wait({waiting}, timeout=seconds)
            if not done:
                yield b": waiting\n\n"
                continue
            part, waiting = waiting.result(), None
            if part is None:
                return
            yield part
    finally:
        if waiting is not None:
            waiting.cancel()


async def _next(parts: AsyncIterator[bytes]) -> bytes | None:
    """The next part; None at the end."""
    return await anext(parts, None)
