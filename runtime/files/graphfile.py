"""Reading one graph file and refusing what may not be loaded, before an engine sees it and without the onnx package.

Refused: what is not a whole ONNX model; operators from any domain but ai.onnx, in subgraphs too; local functions and
training graphs; tensors whose data lies outside the file (they could name any path). Weights are skipped by their
length, so a check takes milliseconds whatever the size; the sha256 is what takes time.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pixelsnail_infer.errors import GraphFileError
from pixelsnail_infer.runtime.files.protobuf import BYTES, WireError, fields

_DOMAINS = (b"", b"ai.onnx")
_DEPTH = 32
# Numbers of the fields that matter, from onnx.proto3: message → {field: what it holds}.
_MODEL = {7: "graph", 8: "opset", 14: "metadata", 20: "training", 25: "function"}
_GRAPH = {1: "node", 5: "tensor", 15: "sparse"}
_NODE = {5: "attribute", 7: "domain"}
_ATTRIBUTE = {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"}
_SPARSE = {1: "tensor", 2: "tensor"}


@dataclass(frozen=True, slots=True)
class GraphFile:
    """A checked file: where it came from, how an engine may load it, its metadata, and its digest when asked for."""

    name: str
    source: Path | bytes
    metadata: dict[str, str]
    size: int
    sha256: str | None


def read_graph(source: str | Path | bytes, name: str | None = None, *, digest: bool = False) -> GraphFile:
    """Check the graph in a file or in bytes; `digest` also computes the sha256.

    Raises `GraphFileError` when the file is missing, unreadable, damaged or unsafe. The file must not change between
    this check and the engine's reading it.
    """
    if isinstance(source, (bytes, bytearray)):
        label = name or "the graph in memory"
        return _read(memoryview(source), label, bytes(source), digest)
    path = Path(source)
    label = name or str(path)
    try:
        with path.open("rb") as handle:
            if not (size := path.stat().st_size):
                raise GraphFileError(f"{label} is empty, expected an ONNX file; export the checkpoint again.")
            mapped = mmap.mmap(handle.fileno(), size, access=mmap.ACCESS_READ)
            return _read(memoryview(mapped), label, path, digest)  # unmapped when the last view of it goes
    except FileNotFoundError:
        raise GraphFileError(
            f"{label} does not exist; check the path, and keep the files of one export together under one name."
        ) from None
    except (OSError, ValueError) as error:
        raise GraphFileError(f"{label} cannot be read ({error}); check that it is a readable file.") from error


def _read(view: memoryview, label: str, source: Path | bytes, digest: bool) -> GraphFile:
    try:
        metadata = _check_model(view, label)
    except (WireError, UnicodeDecodeError) as error:
        raise GraphFileError(
            f"{label} is not a whole ONNX file ({error}); it is truncated or damaged: copy or export it again."
        ) from error
    sha256 = hashlib.sha256(view).hexdigest() if digest else None
    return GraphFile(label, source, metadata, len(view), sha256)


def _check_model(view: memoryview, label: str) -> dict[str, str]:
    metadata: dict[str, str] = {}
    seen = set()
    for kind, message in _known(view, _MODEL):
        seen.add(kind)
        if kind == "graph":
            _check_graph(message, label, 0)
        elif kind == "opset":
            _check_domain(next((bytes(held) for kind, held in _known(message, {1: "domain"})), b""), label)
        elif kind == "metadata":
            entry = {kind: bytes(held).decode() for kind, held in _known(message, {1: "key", 2: "value"})}
            metadata[entry.get("key", "")] = entry.get("value", "")
        else:
            raise GraphFileError(f"{label} holds a {kind} part, expected one plain graph; export the checkpoint again.")
    if not {"graph", "opset"} <= seen:
        raise WireError("it has no graph or no opset")
    return metadata


def _check_graph(view: memoryview, label: str, depth: int) -> None:
    if depth > _DEPTH:
        raise WireError(f"graphs are nested more than {_DEPTH} deep")
    for kind, message in _known(view, _GRAPH):
        if kind == "node":
            _check_node(message, label, depth)
        else:
            _check_held(kind, message, label, depth)


def _check_node(view: memoryview, label: str, depth: int) -> None:
    for kind, message in _known(view, _NODE):
        if kind == "domain":
            _check_domain(bytes(message), label)
            continue
        for held_kind, held in _known(message, _ATTRIBUTE):
            _check_held(held_kind, held, label, depth)


def _check_held(kind: str, view: memoryview, label: str, depth: int) -> None:
    if kind == "graph":
        _check_graph(view, label, depth + 1)
    elif kind == "sparse":
        for _, tensor in _known(view, _SPARSE):
            _check_tensor(tensor, label)
    else:
        _check_tensor(view, label)


def _check_tensor(view: memoryview, label: str) -> None:
    for number, _, value in fields(view):
        if number == 13 or (number == 14 and value != 0):  # external_data, data_location
            raise GraphFileError(
                f"{label} keeps tensor data in another file, which is refused because it can name any path; "
                "export the checkpoint again, or save the model with its data inside."
            )


def _check_domain(domain: bytes, label: str) -> None:
    if domain not in _DOMAINS:
        shown = domain.decode(errors="replace")
        raise GraphFileError(
            f"{label} asks for operators of the domain {shown!r}, but only standard ai.onnx operators are loaded; "
            "export the checkpoint again."
        )


def _known(view: memoryview, kinds: dict[int, str]) -> Iterator[tuple[str, memoryview]]:
    """The fields of a message that `kinds` names, each of which must be length-delimited."""
    for number, wire, value in fields(view):
        if (kind := kinds.get(number)) is not None:
            if wire != BYTES or isinstance(value, int):
                raise WireError(f"a {kind} has wire type {wire}")
            yield kind, value
