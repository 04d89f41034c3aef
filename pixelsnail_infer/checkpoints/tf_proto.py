"""The little of protocol buffers that TensorFlow's checkpoints are made of."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from pixelsnail_infer.checkpoints.tf_table import read_varint
from pixelsnail_infer.errors import CheckpointError

__all__ = ["fields", "shape_of"]

MAX_DIMENSIONS = 32


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a protocol buffer's fields."""
    at = 0
    while at < len(message):
        tag, at = read_varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = read_varint(message, at)
            yield tag >> 3, value
            continue
        length = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            length, at = read_varint(message, at)
        if length is None or at + length > len(message):
            raise CheckpointError("has an entry that is not a well-formed protocol buffer: damaged")
        part = message[at : at + length]
        at += length
        yield tag >> 3, part if kind == 2 else int.from_bytes(part, "little")


def shape_of(message: bytes) -> tuple[int, ...]:
    """A TensorShapeProto."""
    shape: list[int] = []
    for number, field in fields(message):
        if number != 2 or not isinstance(field, bytes) or len(shape) == MAX_DIMENSIONS:
            raise CheckpointError(f"has a shape that is not fixed, or of more than {MAX_DIMENSIONS} dimensions")
        size = dict(fields(field)).get(1, 0)
        size = size if isinstance(size, int) else -1
        shape.append(size)
        if size < 0 or prod(max(size, 1) for size in shape) >= 1 << 60:  # -1, or unknown, is written as 2**64 - 1
            raise CheckpointError("has a shape with an unknown or impossible size")
    return tuple(shape)
