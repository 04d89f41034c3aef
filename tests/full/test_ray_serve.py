"""The service on Ray Serve, from a config file: two replicas, rows as they are drawn, the images of `sample`."""

from __future__ import annotations

import http.client
import json
import socket
import time
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


def cancelled(port: int) -> int:
    """Requests that were given up, in whichever of the replicas says most: a request is answered by any."""
    answers = [json.loads(ask(port, "GET", "/v1/stats").read())["models"]["digits"][0] for _ in range(16)]
    return max(stats["cancelled"] for stats in answers)


def test_an_image_is_that_of_sample(port: int, digits_graphs: dict[str, Path]) -> None:
    answers = [ask(port, "POST", "/v1/images", {"n": 3, "label": 4, "seed": 7, "format": "json"}) for _ in range(4)]
    with load(digits_graphs["step"], threads=1) as sampler:
        expected = sampler.sample(3, seed=7, label=4).tolist()
    for answer in answers:
        assert answer.status == 200 and json.loads(answer.read())["pixels"] == expected


def test_rows_come_one_by_one(port: int, digits_graphs: dict[str, Path]) -> None:
    found = np.full((64, 8, 8), -1)
    answer = ask(port, "POST", "/v1/images", {"n": 64, "label": 4, "seed": 7, "stream": True})
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/event-stream")
    for row in events(answer):
        found[row["image"], row["row"]] = row["pixels"]
    with load(digits_graphs["step"], threads=1) as sampler:
        assert np.array_equal(found, sampler.sample(64, seed=7, label=4))


def test_who_leaves_after_the_first_row_ends_the_request(port: int) -> None:
    """So rows come while others are still to be drawn, and a replica learns that nobody listens any more."""
    assert cancelled(port) == 0
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    wanted = json.dumps({"n": 64, "label": 4, "stream": True})
    connection.request("POST", "/v1/images", wanted, {"content-type": "application/json"})
    next(events(connection.getresponse()))
    connection.close()
    ends = time.monotonic() + 30
    while cancelled(port) != 1:
        assert time.monotonic() < ends, "it was drawn to its end"


def test_errors_and_health_are_those_of_the_service(port: int) -> None:
    assert ask(port, "GET", "/healthz").status == 200
    refused = ask(port, "POST", "/v1/images", {"n": 65, "label": 4})
    assert refused.status == 422 and refused.headers["content-type"] == "application/problem+json"


def test_wrong_arguments_are_refused_before_anything_starts() -> None:
    from pixelsnail_infer.runtime.cluster.service import application

    with pytest.raises(RequestError, match="expected a list"):
        application({"models": ["a.onnx"], "hosts": "example.com"})
