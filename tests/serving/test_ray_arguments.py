"""The `args` of a config file for Ray Serve are refused before anything starts; nothing here imports Ray."""

from __future__ import annotations

from typing import Any

import pytest

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.runtime.cluster.arguments import Arguments, read_arguments


@pytest.mark.parametrize("args, says", [
    ({"models": None}, "args.models is null, expected a list"), ({"models": []}, "args.models is empty"),
    ({"models": ["a=b=c,"]}, "has no name"), ({"models": [3]}, "expected a string"), ({"port": 1}, "key 'port'"),
    ({"models": ["a=x.onnx", "a=y.onnx"]}, "two models named a"), ({"models": "a.onnx"}, "expected a list"),
    ({"models": ["x/a.onnx", "y/a.onnx"]}, "two models named a"),
    ({"hosts": "example.com"}, "args.hosts is the string 'example.com', expected a list"),
    ({"hosts": None}, "args.hosts is null"), ({"replicas": "2"}, "expected an integer"),
    ({"memory": "256"}, "expected an integer"), ({"cores": True}, "expected an integer"),
    ({"slots": 0}, "args.slots is 0, expected at least 1"), ({"cores": 0}, "at least 1"), ({"replicas": -1}, "least 1"),
    ({"queue": 0}, "at least 1"), ({"memory": 0}, "at least 1"), ({"max_n": 0}, "1"), ({"max_streams": 0}, "least 1"),
    ({"device": "gpu"}, "args.device is 'gpu', expected cpu, cuda"), ({"backend": "ort"}, "args.backend is 'ort'"),
    ({"grace": -1}, "args.grace is -1"), ({"grace": float("nan")}, "args.grace is nan"),
    ({"grace": float("inf")}, "args.grace is inf"), ({"api_key_file": 3}, "expected a string"),
])  # fmt: skip
def test_wrong_arguments_are_refused(args: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        read_arguments({"models": ["a.onnx"], **args})
    assert "\n" not in str(caught.value)


def test_without_models_they_are_refused() -> None:
    with pytest.raises(RequestError, match="args lacks the key 'models'"):
        read_arguments({})


def test_what_is_right_is_taken_and_the_rest_is_what_serve_has() -> None:
    given = {"models": ["a.onnx", "b=c.onnx,d.onnx"], "hosts": ["example.com"], "device": "cuda:1", "grace": 5}
    found = read_arguments(given)
    assert found == Arguments(models=("a.onnx", "b=c.onnx,d.onnx"), hosts=("example.com",), device="cuda:1", grace=5)
    assert (found.replicas, found.slots, found.memory, found.api_key_file) == (1, 16, 256, None)
    assert read_arguments({"models": ("a.onnx",), "hosts": []}).hosts == ()
