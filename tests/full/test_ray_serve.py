"""The service on Ray Serve, from a config file: two replicas, rows as they are drawn, the images of `sample`."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.runtime import load

pytestmark = pytest.mark.full
yaml = pytest.importorskip("yaml")
pytest.importorskip("ray.serve")
CONFIG = Path(__file__).resolve().parents[2] / "examples" / "ray_serve.yaml"


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


@pytest.fixture(scope="module")
def port(digits_graphs: dict[str, Path]) -> Iterator[int]:
    """Where the example's service answers, with the digits model and engines of one slot."""
    from ray import serve
    from ray.serve.schema import ServeDeploySchema

    from pixelsnail_infer.runtime.cluster.connection import connected
    from pixelsnail_infer.runtime.cluster.service import application

    config = yaml.safe_load(CONFIG.read_text())
    ServeDeploySchema.model_validate(config)  # what Ray reads
    (held,) = config["applications"]
    assert held["import_path"] == f"{application.__module__}:{application.__name__}"
    args = {**held["args"], "models": [f"digits={digits_graphs['step']}"], "slots": 1}
    assert args["replicas"] == 2 and config["http_options"]["host"] == "127.0.0.1"
    chosen = free_port()
    with connected("", 4):
        serve.start(http_options={**config["http_options"], "port": chosen})
        try:
            serve.run(application(args), name=held["name"], route_prefix=held["route_prefix"])
            yield chosen
        finally:
            serve.shutdown()


def ask(port: int, method: str, path: str, body: Any = None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    content = None if body is None else json.dumps(body)
    connection.request(method, path, content, {"content-type": "application/json"} if content else {})
    return connection.getresponse()


def events(answer: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The rows of a stream, as they come."""
    while line := answer.readline():
        if line.startswith(b'data: {"image"'):
            yield json.loads(line[len(b"data: ") :])


def unfinished(port: int) -> int:
    """Images that wait or are drawn, in whichever replica answers first with any."""
    counts = []
    for _ in range(8):
        (stats,) = json.loads(ask(port, "GET", "/v1/stats").read())["models"]["digits"]
        counts.append(stats["live"] + stats["waiting_images"])
    return max(counts)


def test_an_image_is_that_of_sample(port: int, digits_graphs: dict[str, Path]) -> None:
    answers = [ask(port, "POST", "/v1/images", {"n": 3, "label": 4, "seed": 7, "format": "json"}) for _ in range(4)]
    with load(digits_graphs["step"], threads=1) as sampler:
        expected = sampler.sample(3, seed=7, label=4).tolist()
    for answer in answers:
        assert answer.status == 200 and json.loads(answer.read())["pixels"] == expected


def test_rows_come_one_by_one(port: int, digits_graphs: dict[str, Path]) -> None:
    """The first row is here while most images have not been begun."""
    answer = ask(port, "POST", "/v1/images", {"n": 64, "label": 4, "seed": 7, "stream": True})
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/event-stream")
    rows = events(answer)
    first = next(rows)
    assert unfinished(port) > 32
    found = np.full((64, 8, 8), -1)
    for row in [first, *rows]:
        found[row["image"], row["row"]] = row["pixels"]
    with load(digits_graphs["step"], threads=1) as sampler:
        assert np.array_equal(found, sampler.sample(64, seed=7, label=4))


def test_errors_and_health_are_those_of_the_service(port: int) -> None:
    assert ask(port, "GET", "/healthz").status == 200
    refused = ask(port, "POST", "/v1/images", {"n": 65, "label": 4})
    assert refused.status == 422 and refused.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("args, says", [
    ({}, "models is None"), ({"models": ["a=b=c,"]}, "has no name"), ({"models": ["a.onnx"], "port": 1}, "key 'port'"),
])  # fmt: skip
def test_wrong_arguments_are_refused_before_anything_starts(args: dict[str, Any], says: str) -> None:
    from pixelsnail_infer.runtime.cluster.service import application

    with pytest.raises(RequestError, match=says):
        application(args)
