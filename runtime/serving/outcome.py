"""Waiting for a request's images, as long as its client waits, too."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from numpy.typing import NDArray
from starlette.types import Receive

from pixelsnail_infer.runtime.engine.ticket import Ticket
from pixelsnail_infer.runtime.serving.served import Served
from pixelsnail_infer.runtime.serving.service import Service

__all__ = ["ClientGone", "drawn", "gone", "outcome"]

T = TypeVar("T")


class ClientGone(Exception):
    """The client went away; nobody waits for an answer."""


async def gone(receive: Receive) -> None:
    """Returns when the client has closed its connection; the body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def outcome(ticket: Ticket[T], receive: Receive) -> T:
    """The result of a ticket. Raises its error, or `ClientGone`, after which the request is cancelled."""
    with ticket:
        result = asyncio.ensure_future(_result(ticket))
        watching = asyncio.ensure_future(gone(receive))
        try:
            await asyncio.wait({result, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                raise ClientGone
            return result.result()
        finally:
            for task in (result, watching):
                task.cancel()
            await asyncio.gather(result, watching, return_exceptions=True)


async def drawn(service: Service, served: Served, ticket: Ticket[Any], receive: Receive) -> NDArray[Any]:
    """The images of a ticket of `served`, as clients get them. Raises as `outcome`; the metrics count either."""
    try:
        return served.result(await outcome(ticket, receive))
    finally:
        service.metrics.drawn(served.name, ticket.timing)


async def _result(ticket: Ticket[T]) -> T:
    return await ticket
