"""The routes of the Open Inference Protocol (KServe v2), for the clients that there are for it."""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pixelsnail_infer import __version__
from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.runtime.engine.ticket import Ticket
from pixelsnail_infer.runtime.serving.inference import HEADER, VERSION, Inference, answer, metadata, read_inference
from pixelsnail_infer.runtime.serving.order import FIELDS, find_model
from pixelsnail_infer.runtime.serving.outcome import drawn
from pixelsnail_infer.runtime.serving.problem import Problem, problem_of
from pixelsnail_infer.runtime.serving.served import Served
from pixelsnail_infer.runtime.serving.service import Service
from pixelsnail_infer.runtime.serving.work import computed

__all__ = ["inference_routes"]

_FRESH = {"cache-control": "no-store"}


def inference_routes(service: Service) -> list[Route]:
    """The routes of this file."""

    def model(request: Request) -> Served:
        if request.path_params.get("version", VERSION) != VERSION:
            raise Problem("not-found", f"There is no such version of the model; there is {VERSION}.")
        if not service.models:  # they are being loaded
            service.expect_ready()
        return find_model(request.path_params["model"], service.models)

    async def server(request: Request) -> Response:
        told = {"name": "pixelsnail-infer", "version": __version__, "extensions": ["binary_tensor_data"]}
        return JSONResponse(told, headers=_FRESH)

    async def live(request: Request) -> Response:
        return JSONResponse({"live": True}, headers=_FRESH)

    async def ready(request: Request) -> Response:
        service.expect_ready()
        return JSONResponse({"ready": True}, headers=_FRESH)

    async def described(request: Request) -> Response:
        return JSONResponse(metadata(model(request)), headers=_FRESH)

    async def model_ready(request: Request) -> Response:
        service.expect_ready()
        return JSONResponse({"name": model(request).name, "ready": True}, headers=_FRESH)

    async def infer(request: Request) -> Response:
        service.expect_room()
        served = model(request)
        asked, ticket = await _submit(service, request, served)
        request.state.note.update(model=served.name, n=asked.n)
        return await _answer(service, request, served, asked, ticket)

    routes = [Route("/v2", server), Route("/v2/health/live", live), Route("/v2/health/ready", ready)]
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        routes += [Route(path, described), Route(f"{path}/ready", model_ready),
                   Route(f"{path}/infer", infer, methods=["POST"])]  # fmt: skip
    return routes


async def _submit(service: Service, request: Request, served: Served) -> tuple[Inference, Ticket[Any]]:
    """What is asked for, and the request to the engine. Nothing keeps the body."""
    def submit() -> tuple[Inference, Ticket[Any]]:
        asked = read_inference(body, request.headers.get(HEADER), served, service.settings.most_images)
        try:
            return asked, served.submit(asked.n, asked.arguments)
        except PixelsnailError as error:
            raise problem_of(error, (*FIELDS, *(spec.name for spec in served.conditions))) from error

    async with service.bodies.read(request) as body:
        return await service.bodies.understood(submit, len(body))


async def _answer(service: Service, request: Request, served: Served, asked: Inference, ticket: Ticket[Any]
                  ) -> Response:  # fmt: skip
    pixels = await drawn(service, served, ticket, request.receive)
    body, headers = await computed(partial(answer, served, asked, pixels), pixels.nbytes)
    return Response(body, headers={**headers, **_FRESH})
