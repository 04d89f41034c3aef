"""An ONNX model without `Elu`, for engines that have no kernel of it: every one becomes three or four plainer nodes.

    Elu(x) = x > 0 ? x : alpha · (exp(x) - 1)

What is computed is the same, to the bit where the engine's `Exp` is the one that its `Elu` would use. The model is
rewritten as protobuf, without the onnx package, and its weights are copied as they are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pixelsnail_infer.runtime.files.protobuf import BYTES, VARINT, encoded, fields

__all__ = ["without_elu"]

# Numbers of the fields that matter, from onnx.proto3.
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_TENSOR = 1, 5
_INPUT, _OUTPUT, _NAME, _KIND, _ATTRIBUTE = 1, 2, 3, 4, 5
_FLOAT = 2  # of an attribute, and also the place of the type of a tensor's numbers
_FLOAT16 = 10  # such a type
_PREFIX = "pixelsnail_infer.elu"


def without_elu(model: bytes) -> bytes:
    """The model with every `Elu` of its graph written in other operators; the same bytes where it has none.

    Raises `WireError` for what is no ONNX model.
    """
    whole = memoryview(model)
    if not any(_is_elu(node) for graph in _held(whole, _MODEL_GRAPH) for node in _held(graph, _GRAPH_NODE)):
        return model
    parts = []
    for number, wire, value in fields(whole):
        if number == _MODEL_GRAPH and isinstance(value, memoryview):
            value = memoryview(b"".join(_graph(value)))
        parts.append(encoded(number, wire, value))
    return b"".join(parts)


def _graph(graph: memoryview) -> Iterator[bytes]:
    """Its fields, with nodes in place of each `Elu`, and the numbers that those need."""
    factors: set[float] = {0.0, 1.0}
    half = any(number == _FLOAT and value == _FLOAT16 for tensor in _held(graph, _GRAPH_TENSOR)
               for number, _, value in fields(tensor))  # fmt: skip
    for number, wire, value in fields(graph):
        if number == _GRAPH_NODE and isinstance(value, memoryview) and _is_elu(value):
            alpha = _alpha(value)
            factors.add(alpha)
            for node in _nodes(value, alpha, half):
                yield encoded(_GRAPH_NODE, BYTES, node)
        else:
            yield encoded(number, wire, value)
    for factor in sorted(factors):
        tensor = encoded(2, VARINT, 1) + _text(8, _number(factor)) + encoded(9, BYTES, struct.pack("<f", factor))
        yield encoded(_GRAPH_TENSOR, BYTES, tensor)  # no dims: one number that fits beside any tensor


def _nodes(elu: memoryview, alpha: float, half: bool) -> Iterator[bytes]:
    """`half`: the numbers, which are float32, are cast to what the `Elu` takes."""
    (x,), (y,), name = *(list(_texts(elu, number)) for number in (_INPUT, _OUTPUT)), "".join(_texts(elu, _NAME))
    grown, low, mask = (f"{y}.{_PREFIX}.{one}" for one in ("exp", "low", "mask"))
    factors = {factor: f"{y}.{_number(factor)}" if half else _number(factor) for factor in (0.0, 1.0, alpha)}
    for factor, given in factors.items() if half else ():
        yield _node("CastLike", [_number(factor), x], given, f"{name}/{factor!r}")
    yield _node("Exp", [x], grown, name)
    yield _node("Sub", [grown, factors[1.0]], low, name)
    if alpha != 1.0:
        yield _node("Mul", [low, factors[alpha]], f"{low}.scaled", name)
        low = f"{low}.scaled"
    yield _node("Greater", [x, factors[0.0]], mask, name)
    yield _node("Where", [mask, x, low], y, name)


def _node(kind: str, inputs: list[str], output: str, name: str) -> bytes:
    held = b"".join(_text(_INPUT, one) for one in inputs) + _text(_OUTPUT, output)
    return held + _text(_NAME, f"{name}/{kind}") + _text(_KIND, kind)


def _number(factor: float) -> str:
    """The name of the tensor that holds it."""
    return f"{_PREFIX}.{factor!r}"


def _is_elu(node: memoryview) -> bool:
    return list(_texts(node, _KIND)) == ["Elu"]


def _alpha(node: memoryview) -> float:
    for attribute in _held(node, _ATTRIBUTE):
        for number, _, value in fields(attribute):
            if number == _FLOAT and isinstance(value, memoryview):
                return float(struct.unpack("<f", value)[0])
    return 1.0


def _held(message: memoryview, wanted: int) -> Iterator[memoryview]:
    return (value for number, _, value in fields(message) if number == wanted and isinstance(value, memoryview))


def _texts(message: memoryview, wanted: int) -> Iterator[str]:
    return (bytes(value).decode() for value in _held(message, wanted))


def _text(number: int, value: str) -> bytes:
    return encoded(number, BYTES, value.encode())
