"""A service on a port: starts, answers, and ends in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import uvicorn

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.runtime.serving.app import make_app
from pixelsnail_infer.runtime.serving.connection import Connection
from pixelsnail_infer.runtime.serving.served import Served
from pixelsnail_infer.runtime.serving.service import Service

__all__ = ["bound", "serve"]

_LAST = 3  # seconds for answers that are on their way when everything else has ended
_HEADERS = 1 << 14
_log = logging.getLogger("pixelsnail_infer.serving")


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one. Raises `RequestError`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]  # fmt: skip
        made = socket.socket(family, kind, protocol)  # asyncio sends at once only where the protocol says TCP
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind(address)
            made.listen(1024)
        except OSError:
            made.close()
            raise
    except (OSError, UnicodeError) as error:  # what cannot be a name, like `a..b`, is not even looked up
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else "it is no name of a machine"
        raise RequestError(f"{one_line(host, 200)} port {port} cannot be listened on ({reason}); give another "
                           "--host or --port.") from error  # fmt: skip
    return made


async def serve(
    service: Service,
    listening: socket.socket,
    load: Callable[[], Mapping[str, Served]],
    *,
    grace: float,
    trusted_proxies: str | None = None,
    stop: asyncio.Event | None = None,
) -> bool:
    """Answer on a socket until SIGTERM or SIGINT, or until `stop` is set; a second signal hurries. Models are loaded by
    `load` in a thread while the port answers already. At the end everything drains, for at most `grace` seconds.
    Whether no request was given up; raises what `load` raises."""
    gate = make_app(service)
    protocol: Any = partial(Connection, gate.unreadable)
    config = uvicorn.Config(
        gate, http=protocol, ws="none", lifespan="off", loop="asyncio", log_config=None, access_log=False,
        server_header=False, proxy_headers=trusted_proxies is not None, forwarded_allow_ips=trusted_proxies or "",
        h11_max_incomplete_event_size=_HEADERS, timeout_graceful_shutdown=_LAST,
    )  # fmt: skip
    server = _Server(config)
    ending, hurry = stop or asyncio.Event(), asyncio.Event()
    with _signals(ending, hurry):
        answering = asyncio.ensure_future(server.serve([listening]))
        try:
            drained = await _live(service, load, answering, ending, hurry, grace)
        finally:
            server.should_exit = True
            await answering
    return drained


async def _live(
    service: Service,
    load: Callable[[], Mapping[str, Served]],
    answering: asyncio.Future[None],
    ending: asyncio.Event,
    hurry: asyncio.Event,
    grace: float,
) -> bool:
    """From the loading of the models to the end of their last request."""
    loading = asyncio.ensure_future(asyncio.to_thread(load))
    stopped = asyncio.ensure_future(ending.wait())
    try:
        await asyncio.wait(_any(loading, stopped, answering), return_when=asyncio.FIRST_COMPLETED)
        service.open(await loading)  # a load cannot be broken off
        _log.info("ready", extra={"told": {"models": list(service.models)}})
        await asyncio.wait(_any(stopped, answering), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
    _log.info("draining", extra={"told": {"grace": grace}})
    drained = await service.drain(grace, hurry)
    _log.info("ended", extra={"told": {"drained": drained}})
    return drained


def _any(*futures: asyncio.Future[Any]) -> set[asyncio.Future[Any]]:
    return set(futures)


class _Server(uvicorn.Server):
    """uvicorn's, without its signal handlers: it would close the port at once."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are handled by `serve`."""
        yield


@contextlib.contextmanager
def _signals(ending: asyncio.Event, hurry: asyncio.Event) -> Iterator[None]:
    """The first SIGTERM or SIGINT sets `ending`, the next one `hurry`; only the main thread can get signals."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        (hurry if ending.is_set() else ending).set()

    caught = []
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread
            loop.add_signal_handler(number, stop)
            caught.append(number)
    try:
        yield
    finally:
        for number in caught:
            loop.remove_signal_handler(number)
