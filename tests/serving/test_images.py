"""`POST /v1/images`: every form of the answer is what `sample` and `generate` draw."""

from __future__ import annotations

import base64
import io
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.__main__ import main
from pixelsnail_infer.runtime import Pipeline, Sampler, to_uint8
from pixelsnail_infer.runtime.files.arrays import npy
from pixelsnail_infer.runtime.serving import image_routes
from pixelsnail_infer.runtime.serving.answer import encode

from .running import Running, events

IMAGE = pytest.importorskip("PIL.Image")


def array(body: bytes) -> Any:
    return np.load(io.BytesIO(body), allow_pickle=False)


def picture(body: bytes) -> Any:
    return IMAGE.open(io.BytesIO(body))


def drawn(rows: list[tuple[str, Any]], shape: tuple[int, ...], stage: int = 0) -> Any:
    """The pixels of a stream's rows."""
    pixels = np.full(shape, -7)
    for name, data in rows:
        if name == "row" and data["stage"] == stage:
            pixels[data["image"], data["row"]] = data["pixels"]
    return pixels


def test_npy_is_what_sample_draws(live: Running, digits: Sampler) -> None:
    answer = live.images({"model": "digits", "n": 3, "label": 4, "seed": 7, "format": "npy"})
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-npy")
    assert np.array_equal(array(answer.body), digits.sample(3, seed=7, label=4))


@pytest.mark.parametrize(
    "body",
    [
        {"temperature": 0.6, "top_k": 5, "top_p": 0.9},
        {"temperature": [0.5, 1], "seed": [5, 2**64 - 1]},
        {"label": None, "conditions": {"label": [1, 2]}, "top_k": [2, 17]},
        {"known": np.full((8, 8), 3).tolist(), "known_mask": (np.arange(64).reshape(8, 8) < 30).tolist()},
    ],
    ids=["settings", "each its own", "conditions", "known"],
)
def test_every_field_reaches_the_model(live: Running, digits: Sampler, body: dict[str, Any]) -> None:
    answer = live.images({"model": "digits", "n": 2, "label": 8, "format": "json", **body})
    arguments = {"label": 8, **{name: value for name, value in body.items() if name not in ("conditions", "label")}}
    arguments |= body.get("conditions", {})
    known = {name: np.asarray(arguments.pop(name)) for name in ("known", "known_mask") if name in arguments}
    expected = digits.sample(2, **arguments, **known)
    assert answer.status == 200, answer.json
    assert np.array_equal(answer.json["pixels"], expected)
    assert answer.json["shape"] == [2, 8, 8] and answer.json["dtype"] == "int64"


def test_arrays_come_as_npy_too(live: Running, digits: Sampler) -> None:
    known, mask = np.full((8, 8), 9), np.eye(8, dtype=bool)
    coded = {"known": known.astype(">i2"), "known_mask": np.asfortranarray(mask), "label": np.int64(3)}
    fields = {name: {"npy": base64.b64encode(npy(np.asarray(value))).decode()} for name, value in coded.items()}
    answer = live.images({"model": "digits", "n": 2, "format": "npy", **fields})
    assert np.array_equal(array(answer.body), digits.sample(2, label=3, known=known, known_mask=mask))


@pytest.mark.parametrize("byte", [2, 255])
def test_any_byte_but_zero_of_a_mask_is_true(live: Running, digits: Sampler, byte: int) -> None:
    known, mask = np.full((8, 8), 1), np.arange(64).reshape(8, 8) % 2 == 0
    odd = (mask.astype(np.uint8) * byte).view(bool)
    body = {"model": "digits", "label": 3, "known": known.tolist(), "format": "npy",
            "known_mask": {"npy": base64.b64encode(npy(odd)).decode()}}  # fmt: skip
    assert np.array_equal(array(live.images(body).body), digits.sample(1, label=3, known=known, known_mask=mask))


@pytest.mark.parametrize("n", [1, 4])
def test_a_picture_is_the_one_of_the_command(live: Running, digits_graphs: dict[str, Path], tmp_path: Path, n: int
                                             ) -> None:  # fmt: skip
    answer = live.images({"model": "digits", "n": n, "label": 3, "seed": 5})
    name = "x.png" if n > 1 else "x{index}.png"
    command = ["sample", str(digits_graphs["step"]), "--n", str(n), "--label", "3", "--seed", "5"]
    assert main([*command, "-o", str(tmp_path / name)]) == 0
    made, served = IMAGE.open(tmp_path / name.format(index=0)), picture(answer.body)
    assert answer.headers["content-type"] == "image/png"
    assert np.array_equal(np.asarray(made), np.asarray(served)) and made.mode == served.mode
    assert {k: v for k, v in made.text.items() if k not in ("index", "labels")}.items() <= served.text.items() | {
        ("temperature", "1")
    }


def test_columns_and_scale(live: Running) -> None:
    answer = live.images({"model": "digits", "n": 4, "label": 3, "columns": 1, "scale": 2})
    assert picture(answer.body).size == (24, 4 * 34 + 4)


@pytest.mark.parametrize(
    "accept, kind",
    [
        ("application/json", "application/json"), ("image/png, application/json;q=0.5", "image/png"),
        ("application/json;q=0.2, application/x-npy;q=0.7", "application/x-npy"), ("*/*", "image/png"),
        ("text/html, image/*;q=0.1", "image/png"), ("", "image/png"), ("text/event-stream", "text/event-stream"),
        ("image/png;q=0, application/json;q=x, application/x-npy;q=0.1", "application/x-npy"),
        ("image/png;q=0, */*", "application/json"), ("image/*;q=0, */*;q=0.1", "application/json"),
        ("application/*", "application/json"), ("application/json;q=0, application/*", "application/x-npy"),
        ("text/*", "text/event-stream"), ("application/json, text/plain, */*", "application/json"),
        ("*/*, application/x-npy", "application/x-npy"), ("application/x-npy, application/json", "application/x-npy"),
    ],
)  # fmt: skip
def test_the_header_chooses_the_form(live: Running, accept: str, kind: str) -> None:
    answer = live.images({"model": "digits", "label": 1}, accept=accept)
    assert (answer.status, answer.headers["content-type"].split(";")[0]) == (200, kind)


@pytest.mark.parametrize(
    "fields, accept, kind",
    [
        ({"format": "npy"}, "application/json", "application/x-npy"),
        ({"format": "json"}, "text/html", "application/json"),
        ({"format": "json"}, "text/event-stream", "application/json"),
        ({"stream": True}, "text/html", "text/event-stream"),
        ({"stream": False}, "text/event-stream, application/json;q=0.5", "application/json"),
        ({"stream": False}, "text/*, */*;q=0.1", "image/png"),
    ],
)  # fmt: skip
def test_fields_win_over_the_header(live: Running, fields: dict[str, Any], accept: str, kind: str) -> None:
    answer = live.images({"model": "digits", "label": 1, **fields}, accept=accept)
    assert (answer.status, answer.headers["content-type"].split(";")[0]) == (200, kind)


def test_lines_of_the_header_are_one_list(live: Running) -> None:
    connection = live.send_images({"model": "digits", "label": 1}, "Accept: text/html", "Accept: application/json",
                                  "Connection: close")  # fmt: skip
    with connection, connection.makefile("rb") as file:
        head, _, body = file.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and json.loads(body)["shape"] == [1, 8, 8]


@pytest.mark.parametrize("fields, accept", [({}, "image/gif"), ({}, "*/*;q=0"), ({"stream": False}, "text/*")])
def test_a_form_that_there_is_not(live: Running, fields: dict[str, Any], accept: str) -> None:
    assert live.images({"model": "digits", "label": 1, **fields}, accept=accept).status == 406


def test_what_is_large_is_made_in_a_thread(live: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a few codes, too, where the picture is large: the event loop answers others meanwhile."""
    beside = []

    def made(*arguments: Any) -> bytes:
        beside.append(threading.current_thread().name.startswith("asyncio"))
        return encode(*arguments)

    monkeypatch.setattr(image_routes, "encode", made)
    bodies: list[dict[str, Any]] = [{}, {"n": 4}, {"scale": 40}, {"n": 4, "scale": 40, "format": "npy"}]
    for body in bodies:
        assert live.images({"model": "digits", "label": 1, **body}).status == 200
    assert beside == [False, False, True, False]


def test_a_stream_has_every_row_once_and_in_order(live: Running, digits: Sampler) -> None:
    answer = live.images({"model": "digits", "n": 3, "label": [1, 2, 3], "seed": 9, "stream": True})
    found = events(answer.body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert [name for name, _ in found] == ["start", *["row"] * 24, "end"]
    assert found[0][1]["stages"] == [{"shape": [8, 8], "levels": 17}]
    assert found[0][1]["request_id"] == answer.headers["x-request-id"]
    for image in range(3):
        rows = [data["row"] for name, data in found if name == "row" and data["image"] == image]
        assert rows == list(range(8))
    assert np.array_equal(drawn(found, (3, 8, 8)), digits.sample(3, seed=9, label=[1, 2, 3]))


def test_a_pipeline_draws_what_generate_draws(live: Running, pipeline: Pipeline) -> None:
    body = {"model": "chain", "n": 2, "label": 1, "seed": 3, "temperature": [1, None], "format": "npy"}
    expected = pipeline.generate(2, seed=3, label=1)
    assert np.array_equal(array(live.images(body).body), expected.images)
    found = events(live.images({**body, "stream": True}).body)
    for stage, codes in enumerate(expected.codes):
        assert np.array_equal(drawn(found, codes.shape, stage), codes)
    for image in range(2):
        (png,) = [data["png"] for name, data in found if name == "image" and data["image"] == image]
        shown = np.asarray(picture(base64.b64decode(png)))
        assert np.array_equal(shown.reshape(expected.images[image].shape), to_uint8(expected.images[image]))


def test_requests_at_once_are_each_the_same_as_alone(live: Running, digits: Sampler) -> None:
    bodies = [{"model": "digits", "n": 1 + k % 3, "label": k % 10, "seed": k, "format": "npy"} for k in range(12)]
    connections = [live.send_images(body, "Connection: close") for body in bodies]
    for body, connection in zip(bodies, connections, strict=True):
        with connection, connection.makefile("rb") as file:
            answer = file.read().split(b"\r\n\r\n", 1)[1]
        assert np.array_equal(array(answer), digits.sample(body["n"], seed=body["seed"], label=body["label"]))


def test_models_are_listed(live: Running) -> None:
    found = live.ask("GET", "/v1/models").json
    digits, chain = found["models"]
    assert (digits["name"], digits["shape"], digits["levels"], digits["label"]) == ("digits", [8, 8], 17, "label")
    assert len(chain["stages"]) == 2 and chain["levels"] is None and not chain["known"]
    assert found["limits"]["n"] == 16
