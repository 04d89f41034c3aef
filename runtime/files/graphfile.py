"""Reading one graph file and refusing what may not be loaded, before an engine sees it and without the onnx package.

Refused: what is not a whole ONNX model; operators from any domain but ai.onnx, in subgraphs too; local functions and
training graphs; tensors whose data lies outside the file (they could name any path). Weights are skipped by their
length, so a check takes milliseconds; reading the file and its sha256 are what takes time.

The file is read whole, not mapped: a mapped file that somebody shortens kills the process. The engine reads it from its
path once more, so that the bytes are not held while it does, and `GraphFile.expect_unchanged` compares afterwards.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pixelsnail_infer.errors import GraphFileError
from pixelsnail_infer.plainfile import open_plain
from pixelsnail_infer.runtime.files.lookups import lookup_tables
from pixelsnail_infer.runtime.files.protobuf import BYTES, WireError, fields

_DOMAINS = (b"", b"ai.onnx")
_DEPTH = 32
_MOST_BYTES = (1 << 31) - 1  # of a protobuf message, and so of a file that holds its own weights
# Numbers of the fields that matter, from onnx.proto3: message → {field: what it holds}.
_MODEL = {7: "graph", 8: "opset", 14: "metadata", 20: "training", 25: "function"}
_GRAPH = {1: "node", 5: "tensor", 15: "sparse"}
_NODE = {5: "attribute", 7: "domain"}
_ATTRIBUTE = {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"}
_SPARSE = {1: "tensor", 2: "tensor"}


@dataclass(frozen=True, slots=True)
class GraphFile:
    """A checked file: its name in messages, what it is (such as "row graph"), how an engine may load it, its metadata,
    the rows of the tables that its inputs index (see `lookups`), its digest when asked for, and of an archive of graphs
    which of its parts this is."""

    name: str
    what: str
    source: Path | bytes
    metadata: dict[str, str]
    tables: dict[str, int]
    size: int
    sha256: str | None
    stamp: tuple[int, ...] = field(default=(), repr=False)
    part: str | None = None

    @property
    def format(self) -> str:
        """What engines must be able to run: "onnx" or "torchscript"."""
        return "onnx" if self.part is None else "torchscript"

    def expect_unchanged(self) -> None:
        """Raise `GraphFileError` unless the file at the path is still the one that was checked. Call it when an engine
        has read the file."""
        if isinstance(self.source, Path):
            try:
                now = file_stamp(os.stat(self.source))
            except OSError:
                now = ()
            if now != self.stamp:
                raise GraphFileError(f"{self.name} changed while it was loaded; load it again when it is complete.")


def read_graph(source: str | Path | bytes, what: str = "graph", *, digest: bool = False) -> GraphFile:
    """Check the graph in a file or in bytes, and say in messages `what` it is; `digest` also computes the sha256.

    Raises `GraphFileError` when the file is missing, unreadable, damaged or unsafe.
    """
    if isinstance(source, (bytes, bytearray)):
        return _read(bytes(source), f"the {what}", what, None, digest, ())
    path = Path(source)
    try:
        with open_plain(path) as handle:
            status = os.fstat(handle.fileno())
            if not status.st_size:
                raise GraphFileError(f"{path} is empty, expected an ONNX file; export the checkpoint again.")
            if status.st_size > _MOST_BYTES:
                raise GraphFileError(f"{path} has {status.st_size} bytes, more than an ONNX file can; is it a graph?")
            return _read(handle.read(status.st_size), str(path), what, path, digest, file_stamp(status))
    except FileNotFoundError:
        raise GraphFileError(
            f"{path} does not exist; check the path, and keep the files of one export together under one name."
        ) from None
    except OSError as error:
        reason = error.strerror or error
        raise GraphFileError(f"{path} cannot be read ({reason}); check that it is a readable file.") from error
    except MemoryError as error:
        raise GraphFileError(f"{path} cannot be read: it does not fit into memory.") from error


def file_stamp(status: os.stat_result) -> tuple[int, ...]:
    """What differs when the file is another or was written to."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read(
    data: bytes, label: str, what: str, path: Path | None, digest: bool, stamp: tuple[int, ...]
) -> GraphFile:
    try:
        metadata, tables = _check_model(memoryview(data), label)
    except (WireError, UnicodeDecodeError) as error:
        raise GraphFileError(
            f"{label} is not a whole ONNX file ({error}); it is truncated or damaged: copy or export it again."
        ) from error
    sha256 = hashlib.sha256(data).hexdigest() if digest else None
    return GraphFile(label, what, path or data, metadata, tables, len(data), sha256, stamp)


def _check_model(view: memoryview, label: str) -> tuple[dict[str, str], dict[str, int]]:
    metadata: dict[str, str] = {}
    tables: dict[str, int] = {}
    seen = set()
    for kind, message in _known(view, _MODEL):
        if kind == "graph":
            if kind in seen:
                raise WireError("it has two graphs")
            _check_graph(message, label, 0)
            tables = lookup_tables(message)
        elif kind == "opset":
            _check_domain(next((bytes(held) for kind, held in _known(message, {1: "domain"})), b""), label)
        elif kind == "metadata":
            entry = {kind: bytes(held).decode() for kind, held in _known(message, {1: "key", 2: "value"})}
            if (key := entry.get("key", "")) in metadata:
                raise WireError(f"its metadata has {key[:80]!r} twice")
            metadata[key] = entry.get("value", "")
        else:
            raise GraphFileError(f"{label} holds a {kind} part, expected one plain graph; export the checkpoint again.")
        seen.add(kind)
    if not {"graph", "opset"} <= seen:
        raise WireError("it has no graph or no opset")
    return metadata, tables


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
        shown = domain[:80].decode(errors="replace")
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
