"""An ONNX model without `Elu`, for engines that have no kernel of it: every one becomes three or four plainer nodes.

    Elu(x) = x > 0 ? x : alpha · (exp(x) - 1)

What is computed is the same, to the bit where the engine's `Exp` is the one that its `Elu` would use.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pixelsnail_infer.runtime.files.protobuf import BYTES, VARINT, encoded, fields
from pixelsnail_infer.runtime.files.rewriting import (
    ATTRIBUTE,
    INPUT,
    KIND,
    NAME,
    NODE,
    OUTPUT,
    TENSOR,
    held,
    replaced,
    text,
    texts,
    with_graph,
)

__all__ = ["without_elu"]

_FLOAT = 2  # of an attribute, and also the place of the type of a tensor's numbers
_FLOAT16 = 10  # such a type
_PREFIX = "pixelsnail_infer.elu"


def without_elu(model: bytes) -> bytes:
    """The model with every `Elu` of its graph written in other operators; the same bytes where it has none.

    Raises `WireError` for what is no ONNX model.
    """
    return with_graph(model, "Elu", _graph)


def _graph(graph: memoryview) -> Iterator[bytes]:
    """Its fields, with nodes in place of each `Elu`, and the numbers that those need."""
    factors: set[float] = {0.0, 1.0}
    half = any(number == _FLOAT and value == _FLOAT16 for tensor in held(graph, TENSOR)
               for number, _, value in fields(tensor))  # fmt: skip

    def put(elu: memoryview) -> Iterator[bytes]:
        alpha = _alpha(elu)
        factors.add(alpha)
        return (encoded(NODE, BYTES, node) for node in _nodes(elu, alpha, half))

    yield from replaced(graph, "Elu", put)
    for factor in sorted(factors):
        tensor = encoded(2, VARINT, 1) + text(8, _number(factor)) + encoded(9, BYTES, struct.pack("<f", factor))
        yield encoded(TENSOR, BYTES, tensor)  # no dims: one number that fits beside any tensor


def _nodes(elu: memoryview, alpha: float, half: bool) -> Iterator[bytes]:
    """`half`: the numbers, which are float32, are cast to what the `Elu` takes."""
    (x,), (y,), name = *(list(texts(elu, number)) for number in (INPUT, OUTPUT)), "".join(texts(elu, NAME))
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
    ends = b"".join(text(INPUT, one) for one in inputs) + text(OUTPUT, output)
    return ends + text(NAME, f"{name}/{kind}") + text(KIND, kind)


def _number(factor: float) -> str:
    """The name of the tensor that holds it."""
    return f"{_PREFIX}.{factor!r}"


def _alpha(node: memoryview) -> float:
    for attribute in held(node, ATTRIBUTE):
        for number, _, value in fields(attribute):
            if number == _FLOAT and isinstance(value, memoryview):
                return float(struct.unpack("<f", value)[0])
    return 1.0
