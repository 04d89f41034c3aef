"""How valid bytes and JSON documents are spoiled. All choices come from a `random.Random`, which a seed or hypothesis
gives."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from ..checkpoints.bundles import varint

BYTES, VARINT, FIXED = 2, 0, {1: 8, 5: 4}
NUMBERS = (0, 1, -1, 2, 7, 255, 1 << 20, 1 << 31, (1 << 31) - 1, 1 << 40, 1 << 60, (1 << 63) - 1, 1 << 63, 2**64 - 1)
HOSTILE: tuple[Any, ...] = (
    *NUMBERS, 10**400, -(10**30), 0.5, -0.0, 1.0, 1e39, 1e308, float("nan"), float("inf"), None, True, "", "x", "\0",
    "\ud800", "é" * 9, "x" * 100_000, "../../etc/passwd", [], {}, [[]], [1] * 1000, {"": 1}, {"kind": "prior"},
)  # fmt: skip


def spoiled(data: bytes, random: Random) -> bytes:
    """Bytes changed, cut, doubled or added in one to four places."""
    held = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(held) + 1)
        end = min(len(held), at + random.choice((1, 2, 8, 64)))
        how = random.randrange(5)
        if how == 0:
            held[at:end] = bytes(random.randrange(256) for _ in range(end - at))
        elif how == 1:
            del held[at:end]
        elif how == 2:
            held[at:at] = held[at:end]
        elif how == 3:
            held[at:end] = random.choice((b"\xff", b"\0", b"\x7f")) * (end - at)
        else:
            del held[at:]
    return bytes(held)


def document(valid: str, random: Random) -> str:
    """The JSON text of a valid document with some entries replaced, dropped, doubled or added."""
    held = json.loads(valid)
    for _ in range(random.randint(0, 3)):
        _change(held, random)
    text = json.dumps(held)
    if not random.randrange(8):
        text = text.replace('"shape": [', '"shape": ' + "[" * random.choice((3, 90, 5000)), 1)
    if not random.randrange(8):
        text = text[:-1] + ", " + text[1:]  # every key twice
    return text


def _change(held: Any, random: Random) -> None:
    while True:
        keys = list(held) if isinstance(held, dict) else list(range(len(held)))
        if not keys:
            return
        key = random.choice(keys)
        if isinstance(held[key], (dict, list)) and held[key] and random.randrange(4):
            held = held[key]
            continue
        how = random.randrange(6)
        if how == 0:
            del held[key]
        elif how == 1 and isinstance(held, dict):
            held[random.choice(("surprise", "name", "kind", "\ud800"))] = random.choice(HOSTILE)
        elif how == 2 and isinstance(held, list):
            held.append(held[key])
        else:
            held[key] = random.choice(HOSTILE)
        return


def message(data: bytes, random: Random, depth: int = 0) -> bytes:
    """A protobuf message with one field, of it or of a message in it, dropped, doubled or replaced."""
    fields = _fields(data)
    if not fields:
        return spoiled(data, random)
    place = random.randrange(len(fields))
    number, wire, value = fields[place]
    how = random.randrange(8)
    if how == 0:
        del fields[place]
    elif how == 1:
        fields.insert(place, fields[place])
    elif how == 2:
        fields[place] = random.randint(1, 30), wire, value
    elif wire == VARINT:
        fields[place] = number, wire, varint(random.choice(NUMBERS) % (1 << 64))
    elif wire == BYTES and depth < 6 and len(value) > 1 and random.randrange(4):
        fields[place] = number, wire, message(value, random, depth + 1)
    else:
        fields[place] = number, wire, spoiled(value, random)
    return b"".join(_field(*field) for field in fields)


def _field(number: int, wire: int, value: bytes) -> bytes:
    return varint(number << 3 | wire) + (varint(len(value)) if wire == BYTES else b"") + value


def _fields(data: bytes) -> list[tuple[int, int, bytes]]:
    """Number, wire type and bytes of every field; nothing where the bytes are no message."""
    found, at = [], 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        start = at
        if wire == VARINT:
            _, at = _varint(data, at)
        elif wire == BYTES:
            size, start = _varint(data, at)
            at = start + size
        else:
            at += FIXED.get(wire, 1 << 62)
        if at > len(data) or not 0 < number < 1 << 20:
            return []
        found.append((number, wire, data[start:at]))
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at
    return 0, len(data) + 1
