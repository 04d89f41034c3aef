"""A service on a free port, in a thread of the test's process, and requests to it."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from pixelsnail_infer.runtime.serving.server import bound, serve
from pixelsnail_infer.runtime.serving.service import Service
from pixelsnail_infer.runtime.serving.settings import Settings


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def field(self) -> str | None:
        found: str | None = self.json.get("field")
        return found


class Running:
    """One service. `stop()` is what a signal does."""

    def __init__(self, service: Service, port: int) -> None:
        self.service, self.port = service, port
        self.stop: Callable[[], object] = lambda: None
        self.drained: bool | None = None

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        connection = self.connect()
        try:
            sent = dict(headers or {})
            if body is not None and not isinstance(body, bytes):
                body = json.dumps(body).encode()
                sent.setdefault("content-type", "application/json")
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def images(self, body: Any, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", "/v1/images", body, {"content-type": "application/json", **named})

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def send(self, text: bytes) -> socket.socket:
        """A connection on which `text` was sent."""
        made = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        made.sendall(text)
        return made

    def send_images(self, body: Any, *lines: str) -> socket.socket:
        """A connection on which images were asked for."""
        data = json.dumps(body).encode()
        head = ["POST /v1/images HTTP/1.1", f"Host: 127.0.0.1:{self.port}", "Content-Type: application/json",
                f"Content-Length: {len(data)}", *lines]  # fmt: skip
        return self.send("\r\n".join([*head, "", ""]).encode() + data)

    def stats(self, model: str) -> dict[str, Any]:
        """Of the model's first stage."""
        return asdict(self.service.models[model].stats()[0])


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until something is so."""
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it never came to be"
        time.sleep(0.005)


def events(body: bytes) -> list[tuple[str, Any]]:
    """The events of a stream, without comments."""
    found = []
    for block in body.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


@contextmanager
def running(load: Callable[[], Mapping[str, Any]], *, grace: float = 5, wait: bool = True, **limits: Any
            ) -> Iterator[Running]:  # fmt: skip
    """A service of the models that `load` gives; with `wait` it is ready when the block begins."""
    service = Service(Settings(**limits))
    listening = bound("127.0.0.1", 0)
    made = Running(service, listening.getsockname()[1])
    begun, failed = threading.Event(), []

    async def live() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        made.stop = lambda: loop.call_soon_threadsafe(stop.set)
        begun.set()
        made.drained = await serve(service, listening, load, grace=grace, stop=stop)

    def run() -> None:
        try:
            asyncio.run(live())
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(20)
    try:
        until(lambda: not wait or bool(failed) or service.phase == "ready")
        if failed:
            raise failed[0]
        yield made
    finally:
        if thread.is_alive():
            made.stop()
        thread.join(30)
        assert not thread.is_alive()
