"""An ONNX model whose caches have their full length, for engines that want to know it when they read the model.

An axis of a cache that may be shorter is called "K" and its full length, such as `K1024`. That length takes the name's
place; everything else of the file stays as it is.
"""

from __future__ import annotations

import re

from pixelsnail_infer.runtime.files.protobuf import BYTES, VARINT, encoded, fields

__all__ = ["with_whole_axes"]

_NAME = re.compile(rb"K([0-9]{1,9})")
_SIZE, _PARAMETER = 1, 2  # of a dimension
# From the model to the sizes of its inputs and outputs, from onnx.proto3: the numbers of the fields that are changed.
_WAY = ({7}, {11, 12, 13}, {2}, {1}, {2}, {1})


def with_whole_axes(model: bytes) -> bytes:
    """The model with numbers for the axes that bear such a name; the same bytes where none does. Raises `WireError`."""
    return _changed(memoryview(model), 0) or model


def _changed(message: memoryview, depth: int) -> bytes | None:
    """A message with what lies on the way changed; None where there is nothing to change."""
    if depth == len(_WAY):
        return _dimension(message)
    found = {place: new for place, (number, wire, value) in enumerate(fields(message))
             if number in _WAY[depth] and wire == BYTES and isinstance(value, memoryview)
             and (new := _changed(value, depth + 1)) is not None}  # fmt: skip
    if not found:
        return None
    return b"".join(encoded(number, wire, found.get(place, value))
                    for place, (number, wire, value) in enumerate(fields(message)))  # fmt: skip


def _dimension(message: memoryview) -> bytes | None:
    """A size in place of a name."""
    names = [bytes(value) for number, _, value in fields(message)
             if number == _PARAMETER and isinstance(value, memoryview)]  # fmt: skip
    known = _NAME.fullmatch(names[0]) if len(names) == 1 else None
    return encoded(_SIZE, VARINT, int(known[1])) if known else None
