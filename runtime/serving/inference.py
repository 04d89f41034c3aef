"""A request of the Open Inference Protocol (KServe v2): read, and answered in the same form."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.serving.json_body import read_object
from pixelsnail_infer.runtime.serving.order import seed_of
from pixelsnail_infer.runtime.serving.problem import Problem
from pixelsnail_infer.runtime.serving.served import Served
from pixelsnail_infer.runtime.serving.tensor import Binary, datatype, read_tensor

__all__ = ["HEADER", "OUTPUT", "VERSION", "Inference", "answer", "metadata", "read_inference"]

HEADER = "inference-header-content-length"
OUTPUT = "pixels"
VERSION = "1"
SETTINGS = {"seed": "UINT64", "temperature": "FP32", "top_k": "INT64", "top_p": "FP32"}
"""Inputs that are one for each image, and may be left out; also parameters, one value for all images."""
_IGNORED = ("priority", "timeout", "sequence_id", "sequence_start", "sequence_end")
"""Parameters by which Triton's clients send arguments of their `infer`; they mean nothing here."""


@dataclass(frozen=True, slots=True)
class Inference:
    """A checked request: `arguments` are those of `Engine.submit`; `binary` says whether the answer's tensor is."""

    id: str | None
    n: int
    arguments: dict[str, Any]
    binary: bool


def metadata(served: Served) -> dict[str, Any]:
    """The answer to `GET /v2/models/NAME`. Conditions are needed; the other inputs may be left out."""
    inputs = [(spec.name, spec.dtype, spec.shape) for spec in served.conditions]
    each = [] if served.is_pipeline else _each(served)
    told = [{"name": name, "datatype": datatype(dtype), "shape": [-1, *shape]} for name, dtype, shape in inputs]
    told += [{"name": name, "datatype": kind, "shape": [-1, *shape]} for name, kind, shape in each]
    output = {"name": OUTPUT, "datatype": datatype(served.dtype), "shape": [-1, *served.image_shape]}
    return {"name": served.name, "versions": [VERSION], "platform": "pixelsnail-infer", "inputs": told,
            "outputs": [output]}  # fmt: skip


def read_inference(body: bytes, header: str | None, served: Served, most_images: int) -> Inference:
    """Check a request's body, whose JSON is `header` bytes long, if that is given. Raises `Problem`."""
    document, binary = _parts(body, header)
    inputs = document.get("inputs", [])
    if not isinstance(inputs, list):
        raise Problem("malformed", f"inputs is {shown(inputs)}, expected a list.", field="inputs")
    tensors: dict[str, NDArray[Any]] = {}
    for entry in inputs:
        name, array = read_tensor(entry, binary)
        if name in tensors:
            raise Problem("invalid", f"The input {shown(name)} is there twice.", field=name[:80])
        tensors[name] = array
    binary.expect_end()
    parameters = _parameters(document)
    n = _images(tensors, parameters, most_images)
    settings, given = _settings(parameters), _inputs(served, tensors)
    if doubled := [name for name in settings if name in given]:
        what = f"{doubled[0]} is an input and a parameter; give it once."
        raise Problem("invalid", what, field=doubled[0])
    request_id = document.get("id")
    if not (request_id is None or (isinstance(request_id, str) and len(request_id) <= 200)):
        raise Problem("invalid", "id should be a string of at most 200 characters.", field="id")
    return Inference(request_id, n, settings | given, _wants_binary(document.get("outputs", []), parameters))


def answer(served: Served, asked: Inference, pixels: NDArray[Any]) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of an answer."""
    output: dict[str, Any] = {"name": OUTPUT, "datatype": datatype(str(pixels.dtype)), "shape": list(pixels.shape)}
    document: dict[str, Any] = {"model_name": served.name, "model_version": VERSION, "outputs": [output]}
    document |= {} if asked.id is None else {"id": asked.id}
    if not asked.binary:
        output["data"] = pixels.reshape(-1).tolist()
        return json.dumps(document, separators=(",", ":")).encode(), {"content-type": "application/json"}
    data = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()
    output["parameters"] = {"binary_data_size": len(data)}
    told = json.dumps(document, separators=(",", ":")).encode()
    return told + data, {"content-type": "application/octet-stream", HEADER: str(len(told))}


def _parts(body: bytes, header: str | None) -> tuple[dict[str, Any], Binary]:
    if header is None:
        return read_object(body), Binary(b"")
    if not (header.isascii() and header.isdecimal() and len(header) < 12 and int(header) <= len(body)):
        raise Problem("malformed", f"The header Inference-Header-Content-Length is {shown(header)}, and the body has "
                      f"{len(body)} bytes.")  # fmt: skip
    return read_object(body[: int(header)]), Binary(body[int(header) :])


def _parameters(document: dict[str, Any]) -> dict[str, Any]:
    parameters = document.get("parameters", {})
    known = ("n", *SETTINGS, "binary_data_output")
    if not isinstance(parameters, dict):
        raise Problem("malformed", f"parameters is {shown(parameters)}, expected an object.", field="parameters")
    if unknown := [name for name in parameters if name not in (*known, *_IGNORED)]:
        what = f"{shown(unknown[0])} is no parameter of a request; there are {', '.join(known)}."
        raise Problem("invalid", what, field=unknown[0][:80])
    return {name: value for name, value in parameters.items() if name in known}


def _images(tensors: dict[str, NDArray[Any]], parameters: dict[str, Any], most: int) -> int:
    """How many images: the first axis of every input, or the parameter n."""
    n = parameters.get("n")
    if n is None:
        n = next((len(array) if array.ndim else 0 for array in tensors.values()), 1)
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= most:
        raise Problem("invalid", f"The images asked for are {shown(n)}, expected 1 to {most}.", field="n")
    for name, array in tensors.items():
        if not array.ndim or len(array) != n:
            what = f"The input {shown(name)} has the shape {list(array.shape)}, expected {n} images as its first axis"
            raise Problem("invalid", f"{what}.", field=name[:80])
    return n


def _settings(parameters: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in SETTINGS:
        value = parameters.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise Problem("invalid", f"{name} is {shown(value)}, expected a number.", field=name)
        if value is not None:
            found[name] = seed_of(value) if name == "seed" else value
    return found


def _inputs(served: Served, tensors: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Inputs as arguments of `submit`; those of one value for each image lose an axis of length 1."""
    needed = [spec.name for spec in served.conditions]
    known = [*needed, *([] if served.is_pipeline else [name for name, _, _ in _each(served)])]
    if unknown := [name for name in tensors if name not in known]:
        what = f"{shown(unknown[0])} is no input of this model, which takes {', '.join(known) or 'none'}."
        raise Problem("invalid", what, field=unknown[0][:80])
    if missing := [name for name in needed if name not in tensors]:
        raise Problem("invalid", f"The input {missing[0]} is missing.", field=missing[0])
    found: dict[str, Any] = {}
    flat = {*SETTINGS, *(spec.name for spec in served.conditions if spec.kind == "class")}
    for name, array in tensors.items():
        one = array.reshape(len(array)) if name in flat and array.shape == (len(array), 1) else array
        found[name] = seed_of(one.tolist()) if name == "seed" else one
    return found


def _each(served: Served) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, datatype and shape of inputs of single priors that may be left out."""
    filters = [(name, kind, ()) for name, kind in SETTINGS.items() if served.levels is not None or name[:3] != "top"]
    shape = served.image_shape
    return [*filters, ("known", datatype(served.dtype), shape), ("known_mask", "BOOL", shape[:2])]


def _wants_binary(outputs: Any, parameters: dict[str, Any]) -> bool:
    binary = _flag(parameters, "binary_data_output", False, "binary_data_output")
    if not isinstance(outputs, list) or not all(isinstance(entry, dict) for entry in outputs):
        raise Problem("malformed", f"outputs is {shown(outputs)}, expected a list of objects.", field="outputs")
    for entry in outputs:
        if entry.get("name") != OUTPUT:
            what = f"There is no output {shown(entry.get('name'))}; there is {OUTPUT}."
            raise Problem("invalid", what, field="outputs")
        own = {} if entry.get("parameters") is None else entry["parameters"]
        if not isinstance(own, dict) or set(own) - {"binary_data"}:
            what = f"The parameters of the output {OUTPUT} are {shown(own)}, expected binary_data and nothing else."
            raise Problem("invalid", what, field="outputs")
        binary = _flag(own, "binary_data", binary, "outputs")
    return binary


def _flag(parameters: dict[str, Any], name: str, default: bool, field: str) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise Problem("invalid", f"{name} is {shown(value)}, expected true or false.", field=field)
    return value
