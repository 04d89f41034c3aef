"""The whole application: every route behind the gate."""

from __future__ import annotations

from starlette.routing import Router

from pixelsnail_infer.runtime.serving.gate import Gate
from pixelsnail_infer.runtime.serving.image_routes import image_routes
from pixelsnail_infer.runtime.serving.inference_routes import inference_routes
from pixelsnail_infer.runtime.serving.page_routes import page_routes
from pixelsnail_infer.runtime.serving.service import Service
from pixelsnail_infer.runtime.serving.state_routes import state_routes

__all__ = ["make_app"]


def make_app(service: Service) -> Gate:
    """The ASGI application of a service; it may be mounted in any server, at the root of a host."""
    routes = [
        *image_routes(service), *inference_routes(service), *state_routes(service), *page_routes(service),
    ]  # fmt: skip
    return Gate(Router(routes, redirect_slashes=False), service)
