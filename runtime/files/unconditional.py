"""An ONNX model without `If`, for engines that record a graph once and repeat it: every one becomes what its first
branch does.

Exports only leave work out by an `If`: what its first branch gives is right whether or not the condition holds, and the
second branch tells what may be given instead. The model is rewritten as protobuf, without the onnx package, and its
weights are copied as they are.
"""

from __future__ import annotations

from collections.abc import Iterator

from pixelsnail_infer.runtime.files.protobuf import BYTES, encoded, fields

__all__ = ["without_conditions"]

# Numbers of the fields that matter, from onnx.proto3.
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_TENSOR, _GRAPH_OUTPUT = 1, 5, 12
_INPUT, _OUTPUT, _NAME, _KIND, _ATTRIBUTE = 1, 2, 3, 4, 5
_CALLED, _BRANCH = 1, 6  # of an attribute, and what an output is called


def without_conditions(model: bytes) -> bytes:
    """The model with every `If` of its graph done always; the same bytes where it has none.

    Raises `WireError` for what is no ONNX model.
    """
    whole = memoryview(model)
    if not any(_is_if(node) for graph in _held(whole, _MODEL_GRAPH) for node in _held(graph, _GRAPH_NODE)):
        return model
    parts = []
    for number, wire, value in fields(whole):
        if number == _MODEL_GRAPH and isinstance(value, memoryview):
            value = memoryview(b"".join(_graph(value)))
        parts.append(encoded(number, wire, value))
    return b"".join(parts)


def _graph(graph: memoryview) -> Iterator[bytes]:
    """Its fields, with the nodes of its first branch in the place of each `If`."""
    for number, wire, value in fields(graph):
        if number == _GRAPH_NODE and isinstance(value, memoryview) and _is_if(value):
            yield from _done(value)
        else:
            yield encoded(number, wire, value)


def _done(node: memoryview) -> Iterator[bytes]:
    branch = next(held for attribute in _held(node, _ATTRIBUTE) for held in _held(attribute, _BRANCH)
                  if list(_texts(attribute, _CALLED)) == ["then_branch"])  # fmt: skip
    for number, wire, value in fields(branch):
        if number in (_GRAPH_NODE, _GRAPH_TENSOR):
            yield encoded(number, wire, value)
    given = [name for output in _held(branch, _GRAPH_OUTPUT) for name in _texts(output, _CALLED)]
    for name, result in zip(given, _texts(node, _OUTPUT), strict=True):
        copy = _text(_INPUT, name) + _text(_OUTPUT, result) + _text(_NAME, f"{result}/done") + _text(_KIND, "Identity")
        yield encoded(_GRAPH_NODE, BYTES, copy)


def _is_if(node: memoryview) -> bool:
    return list(_texts(node, _KIND)) == ["If"]


def _held(message: memoryview, wanted: int) -> Iterator[memoryview]:
    return (value for number, _, value in fields(message) if number == wanted and isinstance(value, memoryview))


def _texts(message: memoryview, wanted: int) -> Iterator[str]:
    return (bytes(value).decode() for value in _held(message, wanted))


def _text(number: int, value: str) -> bytes:
    return encoded(number, BYTES, value.encode())
