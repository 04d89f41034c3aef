"""`POST /v1/images`: images as a picture, an array, JSON, or a stream of rows."""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.runtime.engine.ticket import Ticket
from pixelsnail_infer.runtime.serving.answer import MEDIA_TYPES, acceptable, check_picture, encode
from pixelsnail_infer.runtime.serving.events import RowStream
from pixelsnail_infer.runtime.serving.json_body import read_object
from pixelsnail_infer.runtime.serving.order import Order, read_order
from pixelsnail_infer.runtime.serving.outcome import drawn
from pixelsnail_infer.runtime.serving.problem import Problem, problem_of
from pixelsnail_infer.runtime.serving.service import Service
from pixelsnail_infer.runtime.serving.work import computed

__all__ = ["image_routes"]


def image_routes(service: Service) -> list[Route]:
    """The routes of this file."""

    async def images(request: Request) -> Response:
        service.expect_ready()
        with service.working():
            if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                raise Problem("unsupported", "The body should be application/json; set the header Content-Type.")
            wish = acceptable(request.headers.get("accept"))
            async with service.bodies.read(request) as body:
                order, form, ticket = await _submit(service, body, wish)
            note = request.state.note
            note.update(model=order.served.name, n=order.n)
            if form == "events":
                return _stream(service, request, order, ticket)
            return await _whole(service, request, order, ticket, form)

    return [Route("/v1/images", images, methods=["POST"])]


async def _submit(service: Service, body: bytes, wish: str) -> tuple[Order, str, Ticket[Any]]:
    """What is asked for, the form of the answer, and the request to the engine."""
    def submit() -> tuple[Order, str, Ticket[Any]]:
        order = read_order(read_object(body), service.models, service.settings.most_images)
        form = "events" if order.stream else order.format or wish
        if form == "png":
            check_picture(order)
        try:
            return order, form, order.served.submit(order.n, order.arguments)
        except PixelsnailError as error:
            raise problem_of(error, order.fields) from error

    return await computed(submit, len(body))


def _stream(service: Service, request: Request, order: Order, ticket: Ticket[Any]) -> Response:
    client = request.client.host if request.client else ""
    try:
        service.enter_stream(client)
    except Problem:
        ticket.cancel()
        raise

    def ended(error: BaseException | None) -> None:
        service.leave_stream(client)
        service.metrics.drawn(order.served.name, ticket.timing)
        if error is not None:
            request.state.note["problem"] = str(error) or type(error).__name__

    limits = service.settings
    return RowStream(order, ticket, request.state.request_id, stall=limits.stall_seconds, ping=limits.ping_seconds,
                     ended=ended)  # fmt: skip


async def _whole(service: Service, request: Request, order: Order, ticket: Ticket[Any], form: str) -> Response:
    pixels = await drawn(service, order.served, ticket, request.receive)
    content = await computed(partial(encode, pixels, order, form), pixels.nbytes)
    return Response(content, media_type=MEDIA_TYPES[form], headers={"cache-control": "no-store"})
