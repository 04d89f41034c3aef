"""How many rows the tables have in which a graph looks the values of its inputs up, found without an engine.

Followed are the operators that move numbers without changing them, from the graph's inputs to the indices of a `Gather`
whose table lies in the file. Any value that an input may hold can then arrive there, so that a table with fewer rows
than the manifest has levels fails at some of them. What is computed from an input is not followed: an index may then be
smaller than the input. One pass over the nodes, in their order.
"""

from __future__ import annotations

from collections.abc import Iterator

from pixelsnail_infer.runtime.files.protobuf import BYTES, VARINT, fields, varint

__all__ = ["lookup_tables"]

_MOVING = frozenset(
    "Concat Expand Flatten Gather GatherElements GatherND Identity Pad Reshape Slice Split Squeeze Tile Transpose "
    "Unsqueeze".split()
)
_WIDE = (1, 6, 7, 11)  # float32, int32, int64, float64: casts to these keep every code
_MOST_SOURCES = 8  # a value made of more inputs is not followed: no file can make this long


def lookup_tables(graph: memoryview) -> dict[str, int]:
    """The rows of the smallest table that each input of a graph (a GraphProto) indexes, by the input's name; inputs
    that index none are left out. Raises `WireError`."""
    tables = dict(_tensor(held) for held in _messages(graph, 5))
    sources = {name: frozenset((name,)) for held in _messages(graph, 11) for name in _texts(held, 1)}
    rows: dict[str, int] = {}
    for node in _messages(graph, 1):
        kind = next(_texts(node, 4), "")
        inputs, outputs = list(_texts(node, 1)), list(_texts(node, 2))
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


def _constant(node: memoryview) -> tuple[int, ...]:
    """Shape of a Constant node's tensor."""
    return next((_tensor(held)[1] for attribute in _messages(node, 5) for held in _messages(attribute, 5)), ())


def _tensor(message: memoryview) -> tuple[str, tuple[int, ...]]:
    """Name and shape of a TensorProto."""
    shape: list[int] = []
    for number, wire, value in fields(message):
        if number == 1 and isinstance(value, int):
            shape.append(value)
        elif number == 1 and wire == BYTES and not isinstance(value, int):  # packed
            at = 0
            while at < len(value):
                size, at = varint(value, at)
                shape.append(size)
    return next(_texts(message, 8), ""), tuple(shape)


def _integer(node: memoryview, name: str, default: int) -> int:
    """A node's attribute that is an integer."""
    for attribute in _messages(node, 5):
        if name in _texts(attribute, 1):
            value = next((value for number, wire, value in fields(attribute) if (number, wire) == (3, VARINT)), 0)
            if isinstance(value, int):
                return value - (1 << 64) if value >= 1 << 63 else value
    return default


def _messages(message: memoryview, wanted: int) -> Iterator[memoryview]:
    for number, _, value in fields(message):
        if number == wanted and not isinstance(value, int):
            yield value


def _texts(message: memoryview, wanted: int) -> Iterator[str]:
    return (bytes(value).decode("utf-8", "replace") for value in _messages(message, wanted))
