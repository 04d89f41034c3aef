"""Bodies of requests: too slow, too large, too many at once, and what is left of them."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pixelsnail_infer.runtime.serving import gate, image_routes, json_body
from pixelsnail_infer.runtime.serving.json_body import read_object
from pixelsnail_infer.runtime.serving.outcome import while_there
from pixelsnail_infer.runtime.serving.problem import Problem

from .held import BODY, held
from .running import Running, until

HEAD = b"POST /v1/images HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is free is free because nothing refers to it."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def closed(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    with connection, connection.makefile("rb") as file:
        return file.read()


def test_a_body_that_does_not_come(toy: Path) -> None:
    with held(toy, body_seconds=0.2) as (made, _):
        answer = closed(made.send(HEAD + b"Content-Length: 10\r\n\r\n{"))
        assert answer.startswith(b"HTTP/1.1 408") and answer.count(b"connection: close") == 1
        assert made.service.bodies.held == 0


def test_a_body_that_is_too_large_is_not_read(live: Running) -> None:
    answer = live.images(b" " * (1 << 16) + b"{}")
    assert answer.status == answer.json["status"] == 413
    answers = [closed(live.send(HEAD + b"Content-Length: 99999999999\r\n\r\n"))]
    connection = live.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")  # says nothing of its length
    for _ in range(5):
        connection.sendall(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
    answers.append(closed(connection))
    for text in answers:
        assert text.startswith(b"HTTP/1.1 413") and text.count(b"connection: close") == 1
    assert live.service.bodies.held == 0


def test_who_sends_on_still_gets_the_answer(live: Running) -> None:
    """The connection is closed after a while, not under the client's hands."""
    size = 8 << 20
    connection = live.send(HEAD + b"Content-Length: %d\r\n\r\n" % size)
    for _ in range(0, size, 1 << 16):
        connection.sendall(b" " * (1 << 16))
    assert closed(connection).startswith(b"HTTP/1.1 413")


def test_other_problems_keep_the_connection(live: Running) -> None:
    connection = live.connect()
    for body in (b"{", b'{"label":[%s]}' % b",".join([b"[]"] * 3), b'{"model":"digits","label":1}'):
        connection.request("POST", "/v1/images", body, {"content-type": "application/json"})
        response = connection.getresponse()
        assert response.getheader("connection") is None and response.read()
    connection.close()


def test_bodies_together_are_bounded(toy: Path) -> None:
    with held(toy, most_body=1000, most_bodies=1500) as (made, orders):
        half = made.send(HEAD + b"Content-Length: 1000\r\n\r\n" + b" " * 999)
        until(lambda: made.service.bodies.held == 999)
        orders.gate.set()
        assert made.images(BODY).status == 200
        answer = made.images(json.dumps(BODY).encode() + b" " * 900)
        assert answer.status == 429, answer.json
        half.close()
        until(lambda: made.service.bodies.held == 0)
        assert made.images(json.dumps(BODY).encode() + b" " * 900).status == 200


def test_large_bodies_are_read_one_at_a_time(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And small ones beside them."""
    large = json.dumps(BODY).encode() + b" " * (2 << 20)
    gate_, lock, inside, most = threading.Event(), threading.Lock(), 0, 0

    def slow(body: bytes) -> dict[str, Any]:
        nonlocal inside, most
        if len(body) == len(large):
            with lock:
                inside += 1
                most = max(most, inside)
            assert gate_.wait(20)
            with lock:
                inside -= 1
        return read_object(body)

    monkeypatch.setattr(image_routes, "read_object", slow)
    with held(toy) as (made, orders):
        orders.gate.set()
        threads = [threading.Thread(target=lambda: statuses.append(made.images(large).status)) for _ in range(3)]
        statuses: list[int] = []
        for thread in threads:
            thread.start()
        try:
            until(lambda: made.service.bodies.held == 3 * len(large))
            assert [made.images(BODY).status for _ in range(3)] == [200] * 3
            assert inside == 1
        finally:
            gate_.set()
            for thread in threads:
                thread.join()
        assert statuses == [200] * 3 and most == 1


@pytest.mark.parametrize("unit", [b"[]", b"{}", b'{"a":[]}'])
@pytest.mark.parametrize("path", ["/v1/images", "/v2/models/digits/infer"])
def test_json_of_very_many_parts_is_not_read(live: Running, unit: bytes, path: str, monkeypatch: pytest.MonkeyPatch
                                             ) -> None:  # fmt: skip
    monkeypatch.setattr(json_body, "_MOST", 1000)
    parts = [unit] * (1000 // (unit.count(b"[") + unit.count(b"{")))
    body = b'{"inputs":[%s]}' % b",".join(parts)
    answer = live.ask("POST", path, body, {"content-type": "application/json"})
    assert answer.status == 413 and "1,000 lists and objects" in answer.json["detail"], answer.body
    assert "npy" in answer.json["detail"] and "connection" not in answer.headers
    body = b'{"inputs":[%s]}' % b",".join(parts[2:])
    assert live.ask("POST", path, body, {"content-type": "application/json"}).status in (400, 422)


def test_bytes_behind_the_json_may_be_any(live: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_body, "_MOST", 10)
    given = {"shape": [8, 8], "datatype": "UINT8", "parameters": {"binary_data_size": 64}}
    head = json.dumps({"inputs": [{**given, "name": "known"}]}).encode()
    answer = live.ask("POST", "/v2/models/digits/infer", head + b"[" * 64,
                      {"Inference-Header-Content-Length": str(len(head))})  # fmt: skip
    assert answer.status == 422


def test_many_keys_are_read_in_little_time() -> None:
    body = b"{" + b",".join(b'"%d":1' % k for k in range(300_000)) + b',"299999":1}'
    with pytest.raises(Problem, match="twice"):
        read_object(body)


@pytest.mark.parametrize("body", [b'{"label":[{},{}]}', b"{", b'{"label":1,"n":65}'])
def test_what_is_refused_leaves_nothing(live: Running, body: bytes, monkeypatch: pytest.MonkeyPatch,
                                        no_collector: None) -> None:  # fmt: skip
    """The problem's trace holds the frames that held the body and what was read of it."""
    problems = []

    def noted(error: Exception) -> Problem:
        assert isinstance(error, Problem)
        problems.append(weakref.ref(error))
        return error

    monkeypatch.setattr(gate, "problem_of", noted)
    assert live.images(body).status in (400, 422)
    until(lambda: problems[0]() is None)


def test_what_failed_leaves_nothing(no_collector: None) -> None:
    class Failed(Exception):
        pass

    async def fail() -> None:
        raise Failed

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def ask() -> weakref.ref[Failed]:
        try:
            await while_there(fail(), receive)
        except Failed as error:
            return weakref.ref(error)
        raise AssertionError

    async def main() -> None:
        kept = await ask()
        await asyncio.sleep(0)
        assert kept() is None

    asyncio.run(main())
