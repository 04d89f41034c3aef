"""The service on Ray Serve: replicas behind Ray's HTTP proxy, each a process with one engine for every model.

`application` is what a config file of `serve run` names as `import_path`; examples/ray_serve.yaml is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray import serve
from starlette.types import ASGIApp, Receive, Scope, Send

from pixelsnail_infer.runtime.cluster.arguments import Arguments, read_arguments
from pixelsnail_infer.runtime.serving.access import read_keys
from pixelsnail_infer.runtime.serving.app import make_app
from pixelsnail_infer.runtime.serving.loading import EngineOptions, load_models, parse_named
from pixelsnail_infer.runtime.serving.served import Served
from pixelsnail_infer.runtime.serving.service import Service
from pixelsnail_infer.runtime.serving.settings import Settings

__all__ = ["application"]

_MOST_AT_ONCE = 4096  # requests of a replica that Ray lets in: the service has limits of its own, and names them


def application(args: Mapping[str, Any]) -> serve.Application:
    """The application that `args`, the fields of `Arguments` by name, describe. Raises `RequestError`."""
    arguments = read_arguments(args)
    deployment = serve.deployment(
        serve.ingress(_builder(arguments))(), name="pixelsnail-infer", num_replicas=arguments.replicas,
        max_ongoing_requests=_MOST_AT_ONCE, graceful_shutdown_timeout_s=arguments.grace,
        ray_actor_options={"num_cpus": arguments.cores, "num_gpus": 0 if arguments.device == "cpu" else 1},
    )  # fmt: skip
    return deployment.bind()


def _builder(arguments: Arguments) -> Callable[[], ASGIApp]:
    """What a replica calls when it starts: it loads the models, and gives the application."""

    def build() -> ASGIApp:
        threads = max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", arguments.cores)))
        options = EngineOptions(device=arguments.device, backend=arguments.backend, threads=threads,
                                slots=arguments.slots, queue=arguments.queue,
                                memory=arguments.memory << 20)  # fmt: skip
        keys = () if arguments.api_key_file is None else read_keys(arguments.api_key_file)
        settings = Settings(keys=keys, hosts=arguments.hosts, most_images=arguments.max_n,
                            streams=arguments.max_streams)  # fmt: skip
        return _Replica(settings, load_models([parse_named(text) for text in arguments.models], options))

    return build


class _Replica:
    """The service as one ASGI application, which is ready from its first request and closes its engines at the end."""

    def __init__(self, settings: Settings, models: Mapping[str, Served]) -> None:
        self._models = models
        self._service = Service(settings)
        self._service.open(models)
        self._app = make_app(self._service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live through the start and the end of the replica."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        for served in self._models.values():
            served.close()
        await send({"type": "lifespan.shutdown.complete"})
