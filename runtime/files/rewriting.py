"""ONNX models with other nodes in the place of those of one kind, and what their messages hold.

Models are rewritten as protobuf, without the onnx package, and their weights are copied as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from pixelsnail_infer.runtime.files.protobuf import BYTES, encoded, fields

__all__ = ["ATTRIBUTE", "INPUT", "KIND", "NAME", "NODE", "OUTPUT", "TENSOR", "held", "replaced", "text", "texts",
           "with_graph"]  # fmt: skip

# Numbers of the fields that matter, from onnx.proto3: of a model, of a graph, of a node.
_GRAPH = 7
NODE, TENSOR = 1, 5
INPUT, OUTPUT, NAME, KIND, ATTRIBUTE = 1, 2, 3, 4, 5


def with_graph(model: bytes, kind: str, rewritten: Callable[[memoryview], Iterable[bytes]]) -> bytes:
    """The model with the fields that `rewritten` gives of its graph; the same bytes where no node is of that kind.

    Raises `WireError` for what is no ONNX model.
    """
    whole = memoryview(model)
    if not any(_is_kind(node, kind) for graph in held(whole, _GRAPH) for node in held(graph, NODE)):
        return model
    parts = []
    for number, wire, value in fields(whole):
        if number == _GRAPH and isinstance(value, memoryview):
            value = memoryview(b"".join(rewritten(value)))
        parts.append(encoded(number, wire, value))
    return b"".join(parts)


def replaced(graph: memoryview, kind: str, put: Callable[[memoryview], Iterable[bytes]]) -> Iterator[bytes]:
    """The fields of a graph, those that `put` gives in the place of every node of that kind."""
    for number, wire, value in fields(graph):
        if number == NODE and isinstance(value, memoryview) and _is_kind(value, kind):
            yield from put(value)
        else:
            yield encoded(number, wire, value)


def held(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """The messages and texts that one field of a message holds."""
    return (value for number, _, value in fields(message) if number == wanted and isinstance(value, memoryview))


def texts(message: memoryview, wanted: int) -> Iterator[str]:
    return (bytes(value).decode() for value in held(message, wanted))


def text(number: int, value: str) -> bytes:
    """A field that holds a text."""
    return encoded(number, BYTES, value.encode())


def _is_kind(node: memoryview, kind: str) -> bool:
    return list(texts(node, KIND)) == [kind]
