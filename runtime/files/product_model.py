"""An ONNX file of nothing but one matrix product, some times over: how fast an engine multiplies at a shape.

The file is a few messages of the protobuf wire format, written here because the runtime has no onnx package.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pixelsnail_infer.runtime.files.protobuf import BYTES, VARINT, encoded
from pixelsnail_infer.runtime.files.rewriting import text

__all__ = ["product_model"]

_IR_VERSION, _OPSET, _FLOAT = 10, 21, 1


def product_model(left: Sequence[int], right: Sequence[int], copies: int, constant: bool) -> bytes:
    """`copies` nodes that multiply float32 `x0 …` of shape `left` with `w`, a constant of shape `right`, or else each
    with its own input `w0 …`; the results are `y0 …`. Numbers of the constant are small and random."""
    names = [(f"x{k}", "w" if constant else f"w{k}", f"y{k}") for k in range(copies)]
    nodes = [text(1, x) + text(1, w) + text(2, y) + text(4, "MatMul") for x, w, y in names]
    inputs = [_described(x, left) for x, _, _ in names]
    inputs += [] if constant else [_described(w, right) for _, w, _ in names]
    result = (*left[:-1], right[-1])
    graph = b"".join(_field(1, node) for node in nodes) + text(2, "products")
    if constant:
        graph += _field(5, _tensor("w", right))
    graph += b"".join(_field(11, item) for item in inputs)
    graph += b"".join(_field(12, _described(y, result)) for _, _, y in names)
    return _number(1, _IR_VERSION) + _field(7, graph) + _field(8, _number(2, _OPSET))


def _tensor(name: str, shape: Sequence[int]) -> bytes:
    numbers = np.random.default_rng(0).standard_normal(shape, np.float32) / 64
    sizes = b"".join(_number(1, size) for size in shape)
    return sizes + _number(2, _FLOAT) + text(8, name) + _field(9, numbers.astype("<f4").tobytes())


def _described(name: str, shape: Sequence[int]) -> bytes:
    sizes = b"".join(_field(1, _number(1, size)) for size in shape)
    return text(1, name) + _field(2, _field(1, _number(1, _FLOAT) + _field(2, sizes)))


def _field(number: int, data: bytes) -> bytes:
    return encoded(number, BYTES, data)


def _number(number: int, value: int) -> bytes:
    return encoded(number, VARINT, value)
