"""`POST /v1/images`: images as a picture, an array, JSON, or a stream of rows."""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.runtime.engine.ticket import Ticket
from pixelsnail_infer.runtime.serving.answer import MEDIA_TYPES, check_picture, chosen_form, encode
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
        service.expect_room()
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Problem("unsupported", "The body should be application/json; set the header Content-Type.")
        order, form, ticket = await _submit(service, request)
        request.state.note.update(model=order.served.name, n=order.n)
        if form == "events":
            return _stream(service, request, order, ticket)
        return await _whole(service, request, order, ticket, form)

    return [Route("/v1/images", images, methods=["POST"])]


async def _submit(service: Service, request: Request) -> tuple[Order, str, Ticket[Any]]:
    """What is asked for, the form of the answer, and the request to the engine. Nothing keeps the body."""
    def submit() -> tuple[Order, str, Ticket[Any]]:
        order = read_order(read_object(body), service.models, service.settings.most_images)
        form = chosen_form(order, ", ".join(request.headers.getlist("accept")))
        if form == "png":
            check_picture(order)
        try:
            return order, form, order.served.submit(order.n, order.arguments)
        except PixelsnailError as error:
            raise problem_of(error, order.fields) from error

    async with service.bodies.read(request) as body:
        return await service.bodies.understood(submit, len(body))


def _stream(service: Service, request: Request, order: Order, ticket: Ticket[Any]) -> Response:
    client = request.client.host if request.client else ""
    try:
        service.enter_stream(client)
    except Problem:
        ticket.cancel()
        raise

    def ended(error: Exception | None) -> None:
        service.leave_stream(client)
        service.metrics.drawn(order.served.name, ticket.timing)
        if error is not None:
            request.state.note["problem"] = str(error) or type(error).__name__

    return RowStream(order, ticket, request.state.request_id, ping=service.settings.ping_seconds, ended=ended)


async def _whole(service: Service, request: Request, order: Order, ticket: Ticket[Any], form: str) -> Response:
    pixels = await drawn(service, order.served, ticket, request.receive)
    size = max(pixels.nbytes, check_picture(order) if form == "png" else 0)  # a few codes can be a large picture
    content = await computed(partial(encode, pixels, order, form), size)
    return Response(content, media_type=MEDIA_TYPES[form], headers={"cache-control": "no-store"})
