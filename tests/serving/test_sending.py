"""Answers on their way to clients that read slowly, or not at all."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from typing import Any

import pytest

from pixelsnail_infer.runtime.serving import server
from pixelsnail_infer.runtime.serving.connection import Connection
from pixelsnail_infer.runtime.serving.outcome import ClientGone
from pixelsnail_infer.runtime.serving.sending import PIECE, Sender
from pixelsnail_infer.runtime.serving.service import Service
from pixelsnail_infer.runtime.serving.settings import Settings

from .large import MANY, SHAPE, large
from .running import Running, until


def unread(made: Running, body: dict[str, Any], *lines: str) -> socket.socket:
    """A connection of a client that asked for images and reads nothing."""
    data = json.dumps(body).encode()
    head = ["POST /v1/images HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json",
            f"Content-Length: {len(data)}", *lines]  # fmt: skip
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", made.port))
    connection.sendall("\r\n".join([*head, "", ""]).encode() + data)
    return connection


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_large_answer_is_sent_in_pieces_each_after_the_one_before() -> None:
    service = Service(Settings(stall_seconds=0.01))
    sent: list[Any] = []
    seen = []
    stalled = False
    aborted = []

    async def send(message: Any) -> None:
        seen.append(service.unsent)
        if stalled:
            await asyncio.Event().wait()
        sent.append(message)

    async def receive() -> Any:
        assert aborted
        return {"type": "http.disconnect"}

    sender = Sender(send, receive, lambda: aborted.append(1), service, [(b"x", b"y")])
    body = bytes(range(256)) * 1024
    asyncio.run(sender({"type": "http.response.start", "status": 201, "headers": []}))
    asyncio.run(sender({"type": "http.response.body", "body": body}))
    assert sender.status == 201 and sent.pop(0)["headers"] == [(b"x", b"y")]
    assert [len(message["body"]) for message in sent] == [PIECE] * 4 + [0]
    assert b"".join(message["body"] for message in sent) == body
    assert [message["more_body"] for message in sent] == [True] * 4 + [False]
    assert seen[1:] == [len(body)] * 4 + [0]
    stalled = True
    with pytest.raises(ClientGone, match="nothing for 0.01 s"):
        asyncio.run(sender({"type": "http.response.body", "body": body}))
    assert aborted and service.unsent == 0


def test_no_more_than_a_piece_waits_in_the_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    transports: list[Any] = []

    class Noted(Connection):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transports.append(transport)

    monkeypatch.setattr(server, "Connection", Noted)
    with large() as made:
        client = unread(made, MANY)
        until(lambda: bool(transports) and transports[0].get_write_buffer_size() > 0)
        for _ in range(3):
            assert made.ask("GET", "/healthz").status == 200
        assert 0 < transports[0].get_write_buffer_size() <= PIECE
        client.close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_reads_nothing_loses_its_connection(stream: bool, caplog: pytest.LogCaptureFixture) -> None:
    """At once and wholly: its descriptor is free while the client still holds the other end."""
    caplog.set_level(logging.INFO)
    with large(stall_seconds=0.2) as made:
        before = descriptors()
        clients = [unread(made, {**MANY, "stream": stream}) for _ in range(2)]
        until(lambda: descriptors() > before + len(clients))
        until(lambda: descriptors() == before + len(clients))
        until(lambda: not made.service._active)
        assert not made.service._streams and made.service.unsent == 0
        assert b'status="499"' in made.ask("GET", "/metrics").body
        for client in clients:
            client.close()
    told = [record.told for record in caplog.records if record.getMessage() == "request"]  # type: ignore[attr-defined]
    assert [line["problem"] for line in told if line["status"] == 499] == ["The client took nothing for 0.2 s."] * 2
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_the_end_waits_for_an_answer_that_is_read_slowly() -> None:
    with large(grace=20) as made:
        with unread(made, MANY, "Connection: close") as client:
            until(lambda: made.service.unsent > 0)
            made.stop()
            until(lambda: made.service.phase == "draining")
            assert made.ask("GET", "/v2/health/live").status == 200
            assert not made.service.models["large"].closed.wait(0.5)  # type: ignore[attr-defined]
            with client.makefile("rb") as file:
                body = file.read().partition(b"\r\n\r\n")[2]
        assert len(body) == 128 + MANY["n"] * 4 * SHAPE[0] * SHAPE[1] * SHAPE[2]  # type: ignore[operator]
        until(lambda: made.drained is not None)
    assert made.drained is True


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_the_end_breaks_off_is_no_success(stream: bool, monkeypatch: pytest.MonkeyPatch,
                                                         caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    caplog.set_level(logging.INFO, "pixelsnail_infer.serving")
    monkeypatch.setattr(server, "_LAST", 0.1)
    with large(grace=0) as made:
        client = unread(made, {**MANY, "stream": stream})
        with client.dup() as other, other.makefile("rb") as file:
            assert file.readline().startswith(b"HTTP/1.1 200")
        made.stop()
        until(lambda: made.drained is not None)
        client.close()
    assert made.drained is False
    told = [record.told for record in caplog.records if record.getMessage() == "request"]  # type: ignore[attr-defined]
    assert [line["status"] for line in told] == [499] and "gave up" in told[0]["problem"]


def test_answers_that_nobody_takes_are_few() -> None:
    with large(most_unsent=1 << 20) as made:
        client = unread(made, MANY)
        until(lambda: made.service.unsent > 0)
        for method, path in (("/v1/images", MANY), ("/v2/models/large/infer", {})):
            answer = made.ask("POST", method, path)
            assert (answer.status, answer.json["type"]) == (429, "/docs#busy") and answer.headers["retry-after"]
        assert made.ask("GET", "/healthz").status == 200
        client.close()
        until(lambda: made.service.unsent == 0)
        assert made.images({"n": 1, "format": "npy"}).status == 200
