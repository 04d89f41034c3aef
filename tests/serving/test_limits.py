"""Full, starting, draining; clients that go away, send too slowly or take nothing."""

from __future__ import annotations

import json
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.errors import GraphFileError
from pixelsnail_infer.runtime import Engine, Sampler
from pixelsnail_infer.runtime.serving.served import ServedPrior
from pixelsnail_infer.runtime.serving.server import bound

from .held import BODY, held, taken
from .running import events, running, until


def answered(connection: socket.socket) -> tuple[int, Any]:
    """The status and the JSON of the one answer on a connection that the server closes."""
    with connection, connection.makefile("rb") as file:
        head, _, body = file.read().partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def reset(connection: socket.socket) -> None:
    """Close a connection at once, as a client that crashed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_a_full_queue_says_when_to_try_again(toy: Path) -> None:
    with held(toy) as (made, orders):
        waiting = [made.send_images(BODY, "Connection: close") for _ in range(4)]
        taken(made, 4)
        answer = made.images(BODY)
        assert answer.status == 429 and int(answer.headers["retry-after"]) >= 1
        assert answer.json["type"] == "/docs#busy"
        orders.gate.set()
        assert [answered(connection)[0] for connection in waiting] == [200] * 4
        assert made.images(BODY).status == 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("leave", [socket.socket.close, reset], ids=["closed", "reset"])
def test_a_client_that_goes_away_cancels_its_request(toy: Path, stream: bool, leave: Any) -> None:
    with held(toy) as (made, orders):
        connection = made.send_images({**BODY, "stream": stream})
        taken(made, 1)
        leave(connection)
        until(lambda: made.stats("toy")["cancelled"] == 1)
        orders.gate.set()
        taken(made, 0)
        assert made.images(BODY).status == 200
        until(lambda: b'status="499"' in made.ask("GET", "/metrics").body)


def test_a_request_that_waits_is_cancelled_too(toy: Path) -> None:
    with held(toy, slots=1) as (made, _):
        first = made.send_images(BODY)
        taken(made, 1)
        second = made.send_images({**BODY, "stream": True})
        taken(made, 2)
        second.close()
        taken(made, 1)
        first.close()


def test_a_stream_shows_rows_before_the_image_is_finished(toy: Path) -> None:
    with held(toy, ping_seconds=0.1) as (made, orders):
        connection = made.connect()
        connection.request("POST", "/v1/images", json.dumps({**BODY, "stream": True}),
                           {"content-type": "application/json"})  # fmt: skip
        response = connection.getresponse()
        assert response.readline() == b"event: start\n"
        assert [response.readline() for _ in range(3)][2] == b": waiting\n"  # a sign of life while nothing is drawn
        orders.gate.set()
        assert b"event: end" in response.read()
        connection.close()


def test_streams_of_one_client_are_few(toy: Path) -> None:
    with held(toy, slots=4, streams=2) as (made, orders):
        open_ = [made.send_images({**BODY, "stream": True}) for _ in range(2)]
        taken(made, 2)
        answer = made.images({**BODY, "stream": True})
        assert answer.status == 429 and "streams" in answer.json["detail"]
        assert made.stats("toy")["cancelled"] == 1  # the one that was not streamed
        open_.pop().close()
        until(lambda: made.stats("toy")["cancelled"] == 2)
        open_.append(made.send_images({**BODY, "stream": True}))
        taken(made, 2)
        orders.gate.set()
        for connection in open_:
            connection.close()
        until(lambda: not made.service._streams)


def test_a_stream_that_nobody_reads_is_given_up(toy: Path) -> None:
    """The client takes nothing: what the system buffers fills, then the time runs out."""
    with held(toy, slots=16, stall_seconds=0.2, most_images=20_000, queue=1) as (made, orders):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", made.port))
        body = json.dumps({**BODY, "n": 20_000, "stream": True}).encode()
        connection.sendall(b"POST /v1/images HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                           + b"Content-Length: %d\r\n\r\n" % len(body) + body)  # fmt: skip
        orders.gate.set()
        until(lambda: bool(made.service._streams))
        until(lambda: not made.service._streams)
        connection.close()


def test_a_deadline(toy: Path) -> None:
    with held(toy) as (made, orders):
        waiting = made.send_images({**BODY, "deadline": 0.05}, "Connection: close")
        taken(made, 1)
        threading.Timer(0.2, orders.gate.set).start()
        status, document = answered(waiting)
        assert (status, document["type"]) == (504, "/docs#expired")


def test_a_failure_of_the_backend(toy: Path) -> None:
    with held(toy) as (made, orders):
        orders.fail("row", *range(20))
        orders.gate.set()
        assert made.images(BODY).status == 500
        found = events(made.images({**BODY, "stream": True}).body)
        assert [name for name, _ in found] == ["start", "error"]
        assert found[-1][1]["status"] == 500
        orders.fail("row")
        assert made.images(BODY).status == 200
        assert made.stats("toy")["failed"] == 2


def test_while_it_starts(digits: Sampler) -> None:
    loaded = threading.Event()

    def load() -> Any:
        assert loaded.wait(20)
        return {"digits": ServedPrior("digits", ("d",), Engine(digits))}

    with running(load, wait=False) as made:
        until(lambda: made.ask("GET", "/v2/health/live").status == 200)
        for path in ("/healthz", "/v2/health/ready", "/v2/models/digits", "/v2/models/digits/ready"):
            answer = made.ask("GET", path)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1"), path
            assert answer.headers["content-type"] == "application/problem+json"
        answer = made.images(BODY)
        assert answer.status == 503 and answer.headers["retry-after"]
        loaded.set()
        until(lambda: made.ask("GET", "/healthz").status == 200)
        assert made.images(BODY).status == 200
        assert made.ask("GET", "/v2/models/nix").status == 404


def test_models_that_cannot_be_loaded_end_it() -> None:
    def load() -> Any:
        raise GraphFileError("no such model")

    with pytest.raises(GraphFileError, match="no such model"), running(load):
        pass


def test_it_drains(toy: Path) -> None:
    """The first signal: no new requests, and those that are there end in their images."""
    with held(toy, grace=20) as (made, orders):
        waiting = made.send_images(BODY, "Connection: close")
        streaming = made.send_images({**BODY, "stream": True}, "Connection: close")
        taken(made, 2)
        made.stop()
        until(lambda: made.service.phase == "draining")
        answer = made.images(BODY)
        assert answer.status == 503 and answer.json["type"] == "/docs#unavailable" and answer.headers["retry-after"]
        paths = ("/v2/health/live", "/v2/health/ready", "/healthz", "/v2/models/toy")
        assert [made.ask("GET", path).status for path in paths] == [200, 503, 503, 200]
        orders.gate.set()
        status, document = answered(waiting)
        assert status == 200 and np.array_equal(np.shape(document["pixels"]), document["shape"])
        with streaming, streaming.makefile("rb") as file:
            assert b"event: end" in file.read()
        until(lambda: made.drained is not None)
    assert made.drained is True


def test_what_is_left_after_the_grace_is_given_up(toy: Path) -> None:
    with held(toy, grace=0.1) as (made, orders):
        waiting = made.send_images(BODY, "Connection: close")
        streaming = made.send_images({**BODY, "stream": True}, "Connection: close")
        taken(made, 2)
        made.stop()
        assert answered(waiting)[0] == 503
        with streaming, streaming.makefile("rb") as file:
            assert b"event: error" in file.read()
        orders.gate.set()  # the engine's thread is in the middle of a row
        until(lambda: made.drained is not None)
    assert made.drained is False


def test_answers_are_sent_at_once() -> None:
    """asyncio turns Nagle's algorithm off for sockets that say that they are TCP; else an answer waits for 40 ms."""
    with bound("127.0.0.1", 0) as listening, bound("localhost", 0) as named:
        assert listening.proto == named.proto == socket.IPPROTO_TCP
