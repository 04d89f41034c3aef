"""The Open Inference Protocol, by requests made here; `tests/full` asks with the real client of Triton."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.runtime import Pipeline, Sampler

from .running import Answer, Running

LABEL = {"name": "label", "shape": [2], "datatype": "INT64", "data": [3, 4]}
INFER = "/v2/models/digits/infer"


def pixels(answer: Answer) -> Any:
    (output,) = answer.json["outputs"]
    return np.array(output["data"]).reshape(output["shape"])


def nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value


def binary(live: Running, document: dict[str, Any], *tensors: Any) -> Answer:
    """Ask with tensors as bytes, for a tensor as bytes."""
    head = json.dumps(document).encode()
    data = b"".join(np.asarray(tensor).tobytes() for tensor in tensors)
    return live.ask("POST", INFER, head + data, {"Inference-Header-Content-Length": str(len(head))})


def test_what_the_server_and_the_model_are(live: Running) -> None:
    assert live.ask("GET", "/v2").json["extensions"] == ["binary_tensor_data"]
    assert live.ask("GET", "/v2/health/live").status == live.ask("GET", "/v2/health/ready").status == 200
    for path in ("/v2/models/digits", "/v2/models/digits/versions/1"):
        found = live.ask("GET", path).json
        assert found["name"] == "digits" and found["versions"] == ["1"]
        assert found["inputs"][0] == {"name": "label", "datatype": "INT64", "shape": [-1]}
        assert found["outputs"] == [{"name": "pixels", "datatype": "INT64", "shape": [-1, 8, 8]}]
        assert live.ask("GET", f"{path}/ready").json == {"name": "digits", "ready": True}
    assert [entry["name"] for entry in live.ask("GET", "/v2/models/chain").json["inputs"]] == ["label"]
    for path in ("/v2/models/nix", "/v2/models/digits/versions/2"):
        answer = live.ask("GET", path)
        assert answer.status == 404 and answer.json["error"] == answer.json["detail"]


def test_json(live: Running, digits: Sampler) -> None:
    parameters = {"seed": 6, "temperature": 0.5, "top_p": 0.8}
    answer = live.ask("POST", INFER, {"id": "mine", "inputs": [LABEL], "parameters": parameters})
    assert answer.status == 200 and answer.json["id"] == "mine"
    assert np.array_equal(pixels(answer), digits.sample(2, label=[3, 4], **parameters))


def test_inputs_one_for_each_image(live: Running, digits: Sampler) -> None:
    known, mask = np.full((2, 8, 8), 3), np.tri(8, dtype=bool)[None].repeat(2, 0)
    inputs = [LABEL, {"name": "seed", "shape": [2, 1], "datatype": "UINT64", "data": [7, 2**64 - 1]},
              {"name": "temperature", "shape": [2], "datatype": "FP32", "data": [0, 1]},
              {"name": "known", "shape": [2, 8, 8], "datatype": "INT64", "data": known.tolist()},
              {"name": "known_mask", "shape": [2, 8, 8], "datatype": "BOOL", "data": mask.reshape(-1).tolist()}]
    answer = live.ask("POST", INFER, {"inputs": inputs})
    expected = digits.sample(2, label=[3, 4], seed=[7, 2**64 - 1], temperature=[0, 1], known=known, known_mask=mask)
    assert answer.status == 200 and np.array_equal(pixels(answer), expected)


def test_binary(live: Running, digits: Sampler) -> None:
    inputs = [{"name": "label", "shape": [2], "datatype": "INT32", "parameters": {"binary_data_size": 8}},
              {"name": "top_k", "shape": [2], "datatype": "INT64", "parameters": {"binary_data_size": 16}}]
    outputs = [{"name": "pixels", "parameters": {"binary_data": True}}]
    answer = binary(live, {"inputs": inputs, "outputs": outputs}, np.array([1, 2], "<i4"), np.array([2, 3], "<i8"))
    size = int(answer.headers["inference-header-content-length"])
    document = json.loads(answer.body[:size])
    (output,) = document["outputs"]
    assert output["parameters"]["binary_data_size"] == len(answer.body) - size == 2 * 64 * 8
    found = np.frombuffer(answer.body[size:], "<i8").reshape(output["shape"])
    assert np.array_equal(found, digits.sample(2, label=[1, 2], top_k=[2, 3]))


def test_any_byte_but_zero_of_a_mask_is_true(live: Running, digits: Sampler) -> None:
    known, mask = np.full((1, 8, 8), 1), np.arange(64).reshape(1, 8, 8) % 2 == 0
    sizes = {"label": (8, "INT64", [1]), "known": (512, "INT64", [1, 8, 8]), "known_mask": (64, "BOOL", [1, 8, 8])}
    inputs = [{"name": name, "datatype": kind, "shape": shape, "parameters": {"binary_data_size": size}}
              for name, (size, kind, shape) in sizes.items()]  # fmt: skip
    answer = binary(live, {"inputs": inputs}, np.array([3]), known, mask.astype(np.uint8) * 255)
    assert np.array_equal(pixels(answer), digits.sample(1, label=3, known=known, known_mask=mask))


def test_a_pipeline(live: Running, pipeline: Pipeline) -> None:
    answer = live.ask("POST", "/v2/models/chain/versions/1/infer", {"inputs": [{**LABEL, "data": [0, 1]}]})
    assert np.array_equal(pixels(answer).astype(np.float32), pipeline.generate(2, label=[0, 1]).images)


@pytest.mark.parametrize(
    "change, field",
    [
        ({"name": "x"}, "x"), ({"datatype": "BYTES"}, "label"), ({"datatype": "FP32"}, "label"),
        ({"shape": [3]}, "label"),
        ({"shape": [1, 2]}, "label"), ({"shape": [-1]}, "label"), ({"shape": [True]}, "label"),
        ({"data": [3]}, "label"),
        ({"data": [3, 10]}, "label"), ({"data": "ab"}, "label"), ({"data": [3, "4"]}, "label"),
        ({"data": [3, 1.5]}, "label"),
        ({"data": [3, None]}, "label"), ({"data": [[3], [4, 5]]}, "label"), ({"shape": []}, "label"),
        ({"datatype": "UINT8", "data": [3, 256]}, "label"), ({"shape": [2**31]}, "label"),
        ({"data": [3, 10**19]}, "label"),
        ({"parameters": {"binary_data_size": 16}}, "label"), ({"parameters": {"binary_data_size": True}}, "label"),
        ({"parameters": {"binary_data_size": 16.0}}, "label"), ({"parameters": 5}, "label"),
        ({"datatype": ["INT64"]}, "label"), ({"datatype": {}}, "label"), ({"datatype": None}, "label"),
        ({"shape": [0, 2**31 - 1, 2**31 - 1, 2**31 - 1], "data": []}, "label"),
        ({"shape": [0] + [2**31 - 1] * 7, "parameters": {"binary_data_size": 0}}, "label"),
        ({"datatype": "UINT64", "data": nested(3, 40)}, "label"),
        ({"datatype": "UINT64", "data": nested(3, 500)}, "label"), ({"data": nested(3, 500)}, "label"),
    ],
)  # fmt: skip
def test_a_wrong_input_is_named(live: Running, change: dict[str, Any], field: str) -> None:
    answer = live.ask("POST", INFER, {"inputs": [{**LABEL, **change}]})
    assert answer.status in (400, 422) and answer.field in (field, "n"), answer.body
    assert answer.json["error"]


@pytest.mark.parametrize(
    "document",
    [
        {"inputs": 3}, {"inputs": [3]}, {"inputs": [LABEL, LABEL]}, {}, {"inputs": [LABEL], "parameters": {"n": 3}},
        {"inputs": [LABEL], "parameters": {"colour": 3}}, {"inputs": [LABEL], "parameters": 3},
        {"inputs": [LABEL], "parameters": {"seed": -1}}, {"inputs": [LABEL], "parameters": {"top_p": "1"}},
        {"inputs": [LABEL], "parameters": {"temperature": True}}, {"inputs": [LABEL], "outputs": 3},
        {"inputs": [LABEL], "outputs": [{"name": "x"}]}, {"inputs": [LABEL], "id": 3},
        {"inputs": [{**LABEL, "shape": [0], "data": []}]}, {"inputs": [{**LABEL, "shape": [17], "data": [1] * 17}]},
        {"inputs": [LABEL, {"name": "temperature", "shape": [2], "datatype": "FP32", "data": [-1, 1]}]},
        {"inputs": [LABEL, {"name": "known", "shape": [2, 8, 8], "datatype": "INT64", "data": [0] * 128}]},
    ],
)  # fmt: skip
def test_other_wrong_requests(live: Running, document: dict[str, Any]) -> None:
    answer = live.ask("POST", INFER, document)
    assert answer.status in (400, 422), answer.body
    assert answer.headers["content-type"] == "application/problem+json" and answer.json["error"]


@pytest.mark.parametrize(
    "change, field",
    [
        ({"parameters": {"binary_data_output": "false"}}, "binary_data_output"),
        ({"parameters": {"binary_data_output": 1}}, "binary_data_output"),
        ({"parameters": {"colour": 3}}, "colour"), ({"parameters": {"sequence": 3}}, "sequence"),
        ({"parameters": {"triton_x": 3}}, "triton_x"), ({"parameters": {"seed": 6}}, "seed"),
        ({"outputs": [{"name": "pixels", "parameters": 5}]}, "outputs"),
        ({"outputs": [{"name": "pixels", "parameters": {"binary_data": "no"}}]}, "outputs"),
        ({"outputs": [{"name": "pixels", "parameters": {"classification": 3}}]}, "outputs"),
    ],
)  # fmt: skip
def test_wrong_parameters_are_named(live: Running, change: dict[str, Any], field: str) -> None:
    seed = {"name": "seed", "shape": [2], "datatype": "UINT64", "data": [5, 6]}
    assert live.ask("POST", INFER, {"inputs": [LABEL, seed]}).status == 200
    answer = live.ask("POST", INFER, {"inputs": [LABEL, seed], **change})
    assert (answer.status, answer.field) == (422, field), answer.json


def test_parameters_of_tensors_may_be_null(live: Running) -> None:
    document = {"inputs": [{**LABEL, "parameters": None}], "outputs": [{"name": "pixels", "parameters": None}]}
    plain = live.ask("POST", INFER, {"inputs": [LABEL]})
    assert np.array_equal(pixels(live.ask("POST", INFER, document)), pixels(plain))


def test_parameters_that_tritons_clients_send_change_nothing(live: Running) -> None:
    sent = {"timeout": 5, "priority": 1, "sequence_id": 7, "sequence_start": True, "sequence_end": False}
    first, second = (live.ask("POST", INFER, {"inputs": [LABEL], "parameters": {**more, "seed": 3}})
                     for more in (sent, {}))  # fmt: skip
    assert first.status == 200 and np.array_equal(pixels(first), pixels(second))


@pytest.mark.parametrize("header", ["-1", "99999", "x", "1e3", "", "\xb2"])
def test_a_wrong_length_of_the_json(live: Running, header: str) -> None:
    answer = live.ask("POST", INFER, json.dumps({"inputs": [LABEL]}).encode(),
                      {"Inference-Header-Content-Length": header})  # fmt: skip
    assert answer.status == 400


def test_bytes_that_are_too_few_or_too_many(live: Running) -> None:
    inputs = [{"name": "label", "shape": [2], "datatype": "INT64", "parameters": {"binary_data_size": 16}}]
    for count in (1, 3):
        assert binary(live, {"inputs": inputs}, np.zeros(count, "<i8")).status == 400
    long = binary(live, {"inputs": [{**inputs[0], "name": "é" * 5000}]})
    assert long.status == 400 and len(long.body) < 2000 and long.field == "é" * 80
    assert binary(live, {"inputs": inputs}, np.zeros(2, "<i8")).status == 200


def test_bytes_that_do_not_fit_the_shape(live: Running) -> None:
    entry = {"name": "label", "shape": [2], "datatype": "INT64", "parameters": {"binary_data_size": 24}}
    answer = binary(live, {"inputs": [entry]}, np.zeros(3, "<i8"))
    assert answer.status == 422 and answer.field == "label"
