"""What a service says of itself: health, models, load, metrics."""

from __future__ import annotations

import time
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pixelsnail_infer import __version__
from pixelsnail_infer.runtime.serving.metrics import MEDIA_TYPE
from pixelsnail_infer.runtime.serving.service import Service

__all__ = ["state_routes"]

_FRESH = {"cache-control": "no-store"}


def state_routes(service: Service) -> list[Route]:
    """The routes of this file."""

    async def health(request: Request) -> Response:
        service.expect_ready()
        return JSONResponse({"status": service.phase}, headers=_FRESH)

    async def models(request: Request) -> Response:
        limits = {"n": service.settings.most_images, "body_bytes": service.settings.most_body}
        found = [served.description() for served in service.models.values()]
        return JSONResponse({"models": found, "limits": limits, "version": __version__}, headers=_FRESH)

    async def stats(request: Request) -> Response:
        found = {name: [asdict(stats) for stats in served.stats()] for name, served in service.models.items()}
        told = {"phase": service.phase, "uptime_seconds": round(time.time() - service.begun, 3), "models": found}
        return JSONResponse(told, headers=_FRESH)

    async def metrics(request: Request) -> Response:
        return Response(service.metrics.text(), headers={"content-type": MEDIA_TYPE, **_FRESH})

    return [
        Route("/healthz", health), Route("/v1/models", models), Route("/v1/stats", stats), Route("/metrics", metrics),
    ]  # fmt: skip
