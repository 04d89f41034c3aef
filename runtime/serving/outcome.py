"""Waiting for a request's images, as long as its client waits, too."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from numpy.typing import NDArray
from starlette.types import Receive

from pixelsnail_infer.runtime.engine.ticket import Ticket
from pixelsnail_infer.runtime.serving.served import Served
from pixelsnail_infer.runtime.serving.service import Service

__all__ = ["ClientGone", "drawn", "gone", "while_there"]

T = TypeVar("T")


class ClientGone(Exception):
    """The client went away, or takes nothing any more; nobody waits for an answer."""


async def gone(receive: Receive) -> None:
    """Returns when the connection is closed; the body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def while_there(work: Coroutine[Any, Any, T], receive: Receive) -> T:
    """What `work` returns; raises what it raises, or `ClientGone`, after which it was cancelled."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(gone(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)
        del working  # the trace of its error holds this frame: the two would keep each other


async def drawn(service: Service, served: Served, ticket: Ticket[Any], receive: Receive) -> NDArray[Any]:
    """The images of a ticket of `served`, as clients get them. Raises as `while_there`; the metrics count either."""
    try:
        with ticket:
            return served.result(await while_there(_result(ticket), receive))
    finally:
        service.metrics.drawn(served.name, ticket.timing)


async def _result(ticket: Ticket[T]) -> T:
    return await ticket
