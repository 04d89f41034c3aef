"""How many rows the tables have in which a graph looks the values of its inputs up, found without an engine.

Followed are the operators that move numbers without changing them, from the graph's inputs to the indices of a `Gather`
whose table lies in the file. Any value that an input may hold can then arrive there, so that a table with fewer rows
than the manifest has levels fails at some of them. What is computed from an input is not followed: an index may then be
smaller than the input. One pass over the nodes, in their order.
"""

from __future__ import annotations

from pixelsnail_infer.runtime.files.protobuf import BYTES, VARINT, fields, varint

__all__ = ["lookup_tables"]

Held = dict[int, list[memoryview]]

_MOVING = frozenset(
    "Concat Expand Flatten Gather GatherElements GatherND Identity Pad Reshape Slice Split Squeeze Tile Transpose "
    "Unsqueeze".split()
)
_WIDE = (1, 6, 7, 11)  # float32, int32, int64, float64: casts to these keep every code
_MOST_SOURCES = 8  # a value made of more inputs is not followed: no file can make this long


def lookup_tables(graph: memoryview) -> dict[str, int]:
    """The rows of the smallest table that each input of a graph (a GraphProto) indexes, by the input's name; inputs
    that index none are left out. Raises `WireError`."""
    parts = _held(graph)
    tables = dict(_tensor(held) for held in parts.get(5, ()))
    sources = {name: frozenset((name,)) for held in parts.get(11, ()) for name in _texts(_held(held), 1)}
    rows: dict[str, int] = {}
    for node in map(_held, parts.get(1, ())):
        kind = next(iter(_texts(node, 4)), "")
        inputs, outputs = _texts(node, 1), _texts(node, 2)
        if kind == "Constant":
            tables.update((name, _constant(node)) for name in outputs)
        elif kind == "Gather" and len(inputs) == 2 and inputs[1] in sources:
            size = _size(tables.get(inputs[0], ()), _integer(node, "axis", 0))
            rows.update((name, min(size, rows.get(name, size))) for name in sources[inputs[1]] if size is not None)
        if kind in _MOVING or (kind == "Cast" and _integer(node, "to", 0) in _WIDE):
            moved = inputs if kind == "Concat" else inputs[:1]
            found = frozenset[str]().union(*(sources.get(name, ()) for name in moved))
            if 0 < len(found) <= _MOST_SOURCES:
                sources.update(dict.fromkeys(outputs, found))
    return rows


def _size(shape: tuple[int, ...], axis: int) -> int | None:
    return shape[axis] if -len(shape) <= axis < len(shape) else None


def _constant(node: Held) -> tuple[int, ...]:
    """Shape of a Constant node's tensor."""
    return next((_tensor(held)[1] for attribute in node.get(5, ()) for held in _held(attribute).get(5, ())), ())


def _tensor(message: memoryview) -> tuple[str, tuple[int, ...]]:
    """Name and shape of a TensorProto."""
    name, shape = "", list[int]()
    for number, wire, value in fields(message):
        if number == 1 and isinstance(value, int):
            shape.append(value)
        elif number == 1 and wire == BYTES and not isinstance(value, int):  # packed
            at = 0
            while at < len(value):
                size, at = varint(value, at)
                shape.append(size)
        elif number == 8 and not isinstance(value, int):
            name = _text(value)
    return name, tuple(shape)


def _integer(node: Held, name: str, default: int) -> int:
    """A node's attribute that is an integer."""
    for attribute in node.get(5, ()):
        if name in _texts(_held(attribute), 1):
            value = next((value for number, wire, value in fields(attribute) if (number, wire) == (3, VARINT)), 0)
            if isinstance(value, int):
                return value - (1 << 64) if value >= 1 << 63 else value
    return default


def _held(message: memoryview) -> Held:
    """The messages and texts in a message, by the field's number."""
    held: Held = {}
    for number, wire, value in fields(message):
        if wire == BYTES and not isinstance(value, int):
            held.setdefault(number, []).append(value)
    return held


def _texts(message: Held, number: int) -> list[str]:
    return [_text(value) for value in message.get(number, ())]


def _text(value: memoryview) -> str:
    return str(value, "utf-8", "replace")
