"""The protobuf wire format, as far as checking and changing a graph file needs it: fields of one message, without
copying.

Reference: https://protobuf.dev/programming-guides/encoding/. Length-delimited values come as memoryviews, so that the
hundreds of megabytes of a weight are passed over by their length.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class WireError(ValueError):
    """The bytes are not a protobuf message."""


def fields(message: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Yield (field number, wire type, value) of one message; a fixed-width value comes as its bytes.

    Raises `WireError` for a truncated value, an overlong varint, a group or field number 0.
    """
    position, end = 0, len(message)
    while position < end:
        tag, position = varint(message, position)
        number, wire = tag >> 3, tag & 7
        if number == 0 or tag >= 1 << 32:
            raise WireError(f"bad field tag {tag}")
        if wire == VARINT:
            value, position = varint(message, position)
            yield number, wire, value
            continue
        if wire == BYTES:
            size, position = varint(message, position)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise WireError(f"wire type {wire} is not used by graph files")
        if size > end - position:
            raise WireError(f"a value of {size} bytes reaches past the end of its message")
        yield number, wire, message[position : position + size]
        position += size


def varint(message: memoryview, position: int) -> tuple[int, int]:
    """Read one varint at `position`; returns its value and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise WireError("it ends within a number")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, position
    raise WireError("a number is longer than 64 bits")


def encoded(number: int, wire: int, value: int | memoryview | bytes) -> bytes:
    """One field of a message, as `fields` gives it."""
    tag = _varint(number << 3 | wire)
    if isinstance(value, int):
        assert wire == VARINT
        return tag + _varint(value)
    assert wire in (BYTES, FIXED32, FIXED64)
    return b"".join([tag, _varint(len(value)) if wire == BYTES else b"", value])


def _varint(value: int) -> bytes:
    held = bytearray()
    while value >= 0x80:
        held.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*held, value])
