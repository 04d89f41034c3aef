"""What the service refuses, in one form: a status, a sentence, and the field that is wrong."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.runtime.files.arrays import npy
from pixelsnail_infer.runtime.serving.order import FIELDS

from .running import Answer, Running

GOOD = {"model": "digits", "label": 1}


def is_problem(answer: Answer, status: int) -> None:
    document = answer.json
    assert (answer.status, document["status"]) == (status, status), document
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["detail"] and document["title"] and document["type"].startswith("/docs#")
    assert document["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "body, field",
    [
        ({"n": 0}, "n"), ({"n": 17}, "n"), ({"n": True}, "n"), ({"n": 1.0}, "n"), ({"n": "3"}, "n"),
        ({"seed": -1}, "seed"), ({"seed": 2**64}, "seed"), ({"seed": [1, 2]}, "seed"), ({"seed": 1.5}, "seed"),
        ({"seed": [[1]]}, "seed"), ({"seed": True}, "seed"), ({"seed": "1"}, "seed"),
        ({"temperature": -1}, "temperature"), ({"temperature": 1e39}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": [1, 2]}, "temperature"), ({"temperature": True}, "temperature"),
        ({"temperature": [[1], [2, 3]]}, "temperature"), ({"temperature": {"a": 1}}, "temperature"),
        ({"top_k": 0}, "top_k"), ({"top_k": 18}, "top_k"), ({"top_k": 2.5}, "top_k"), ({"top_p": 0}, "top_p"),
        ({"top_p": 1.01}, "top_p"), ({"label": 10}, "label"), ({"label": -1}, "label"), ({"label": None}, "label"),
        ({"label": [1, 2]}, "label"), ({"label": 1.5}, "label"), ({"label": 2**63}, "label"), ({"label": "a"}, "label"),
        ({"label": 10**19}, "label"), ({"conditions": 3}, "conditions"),
        ({"n": 2, "label": [1.0, 2.0]}, "label"), ({"n": 2, "label": True}, "label"),
        ({"n": 2, "label": [True, False]}, "label"), ({"n": 2, "label": [1, 300]}, "label"),
        ({"n": 2, "label": {"npy": base64.b64encode(npy(np.array([np.nan, 1]))).decode()}}, "label"),
        ({"n": 2, "label": {"npy": base64.b64encode(npy(np.array([True, False]))).decode()}}, "label"),
        ({"n": 2, "label": {"npy": base64.b64encode(npy(np.array([1, 2], np.longdouble))).decode()}}, "label"),
        ({"n": 2, "label": []}, "label"),
        ({"conditions": {"label": 2}}, "label"), ({"conditions": {"x": 2}}, "conditions.x"),
        ({"known": [[1]]}, "known"), ({"known": [[0] * 8] * 8}, "known"),
        ({"known_mask": [[True] * 8] * 8}, "known_mask"),
        ({"known": [[99] * 8] * 8, "known_mask": [[True] * 8] * 8}, "known"),
        ({"known": [[1] * 8] * 8, "known_mask": [[1] * 8] * 8}, "known_mask"),
        ({"known": [["a"] * 8] * 8, "known_mask": [[True] * 8] * 8}, "known"),
        ({"known": {"npy": "!"}}, "known"), ({"known": {"npy": "AAAA"}}, "known"), ({"known": {"npy": 1}}, "known"),
        ({"known": {"npy": base64.b64encode(npy(np.zeros(3, complex))).decode()}}, "known"),
        ({"format": "gif"}, "format"), ({"columns": 0}, "columns"), ({"scale": 65}, "scale"), ({"stream": 1}, "stream"),
        ({"deadline": 0}, "deadline"), ({"deadline": True}, "deadline"), ({"deadline": 1e9}, "deadline"),
        ({"model": 3}, "model"), ({"model": None}, "model"), ({"colour": 1}, "colour"),
        ({"model": "chain", "known": [[1]]}, "known"), ({"model": "chain", "temperature": [1]}, "temperature"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named(live: Running, body: dict[str, Any], field: str) -> None:
    answer = live.images({**GOOD, **body})
    is_problem(answer, 422)
    assert answer.field == field, answer.json


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"3", b"\xff{}", b'{"n":1,"n":2}', b'{"n":NaN}', b'{"seed":1e999}', b"[" * 60000,
     b'{"a":' * 9000, b'{"n":' + b"9" * 5000 + b"}", b'{"n":1}}'],
)  # fmt: skip
def test_what_is_no_json_object(live: Running, body: bytes) -> None:
    is_problem(live.images(body), 400)


def test_other_media_types(live: Running) -> None:
    for kind in ("text/plain", "", "application/x-www-form-urlencoded"):
        is_problem(live.images(b"{}", **{"content-type": kind}), 415)
    is_problem(live.images(GOOD, **{"content-encoding": "gzip"}), 415)


@pytest.mark.parametrize("path", ["/nix", "/v1", "/v1/images/", "/%00", "/../etc/passwd", "/page/../served.py"])
def test_other_paths(live: Running, path: str) -> None:
    is_problem(live.ask("GET", path), 404)


def test_other_methods(live: Running) -> None:
    answer = live.ask("GET", "/v1/images")
    is_problem(answer, 405)
    assert answer.headers["allow"] == "POST"


def test_an_unknown_model(live: Running) -> None:
    answer = live.images({**GOOD, "model": "../../etc"})
    is_problem(answer, 404)
    assert answer.field == "model" and "digits" in answer.json["detail"]


def test_what_is_no_http(live: Running, caplog: pytest.LogCaptureFixture) -> None:
    """It is refused in the same form, and stands in the log and in the metrics."""
    caplog.set_level("INFO", "pixelsnail_infer.serving")
    for text in (b"\x16\x03\x01\x02garbage\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
                 b"POST /v1/images HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: x\r\n\r\n"):  # fmt: skip
        with live.send(text) as connection, connection.makefile("rb") as file:
            head, _, body = file.read().partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        answer = Answer(int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body)
        is_problem(answer, 400)
        assert answer.headers["connection"] == "close" and answer.headers["x-content-type-options"] == "nosniff"
        told = [getattr(record, "told", {}) for record in caplog.records]
        assert [line["status"] for line in told if line.get("request_id") == answer.json["request_id"]] == [400]
    page = live.ask("GET", "/metrics").body
    assert b'pixelsnail_http_requests_total{method="other",route="other",status="400"}' in page


def test_a_picture_that_is_too_large(live: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelsnail_infer.runtime.serving.answer.MOST_PIXELS", 64 * 64)
    assert live.images({**GOOD, "scale": 8}).status == 200
    for body in ({"scale": 9}, {"n": 4}):
        answer = live.images({**GOOD, **body})
        is_problem(answer, 422)
        assert answer.field == "scale"
        assert live.images({**GOOD, **body, "format": "npy"}).status == 200
        assert live.images({**GOOD, **body, "stream": True}).status == 200


def test_random_bodies_are_answered_and_nothing_breaks(live: Running) -> None:
    """Random values in random fields: an answer or a problem that is the client's, never one that is ours."""
    random_ = random.Random(7)
    values: list[Any] = [None, True, 0, -1, 1, 3, 2**63, 2**64 - 1, 0.5, -0.0, 1e300, "", "a", "\x00\u2028", [], [[]],
                         [1, 2], [None], [[1], [2, 3]], {}, {"npy": ""}, {"npy": "k05VTVBZ"}, {"label": 3}, "digits",
                         [0.5, True], ["1"], [{}], [[[[1]]]], "png", 10**19]  # fmt: skip
    statuses = []
    for _ in range(300):
        body = {"model": random_.choice(["digits", "chain"]), "label": random_.randrange(3)}
        for name in random_.sample(FIELDS, random_.randrange(4)):
            body[name] = random_.choice(values)
        answer = live.images(body)
        statuses.append(answer.status)
        assert answer.status in (200, 404, 422), (body, answer.body)
    assert {200, 422} <= set(statuses)


def test_random_bytes_are_answered(live: Running) -> None:
    random_ = random.Random(8)
    good = json.dumps({**GOOD, "n": 1, "known": [[1, 2], [3, 4]], "format": "json"}).encode()
    for _ in range(150):
        body = bytearray(good)
        for _ in range(random_.randrange(1, 4)):
            body[random_.randrange(len(body))] = random_.randrange(256)
        assert live.images(bytes(body)).status in (200, 400, 404, 422)
