"""A graph that is decided and not yet written: inputs, operations in order, outputs. It knows of no file format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Literal

__all__ = ["Graph", "Input", "Kind", "Operation", "Output", "Region", "Shape", "Step", "Value", "needed"]

Kind = Literal["float", "wide", "int", "bool"]
"""Of values: "float" is the precision of the graph, "int" is int64. "wide" is float32, and only in graphs whose
precision is half of that."""
Shape = tuple[int | str, ...]
"""Sizes. Known only when a graph runs are "B", the number of slots, and "K…", the length of all caches that grow."""


@dataclass(frozen=True, slots=True)
class Value:
    """A graph input or the result of an operation. Names are unique within a graph."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Operation:
    """The base of the vocabulary. Its operands are its fields that are values."""

    def operands(self) -> Iterator[Value]:
        """The values that it reads, in the order of its fields."""
        for entry in fields(self):
            given = getattr(self, entry.name)
            yield from (one for one in (given if isinstance(given, tuple) else (given,)) if isinstance(one, Value))


@dataclass(frozen=True, slots=True)
class Region:
    """Work that a run may leave out: its results matter only where `live`, one truth value `[1]`, holds.

    What leaves it is either chosen against a value from outside, `Where(mask, result, held)`, and is then the held one;
    or only regions read it that are live nowhere else, which is what `stride` tells.
    """

    name: str
    stride: tuple[int, int]
    live: Value

    def covers(self, other: Region | None) -> bool:
        """Whether this one is live wherever the other one is."""
        return other is not None and all(a % b == 0 for a, b in zip(other.stride, self.stride, strict=True))


@dataclass(frozen=True, slots=True)
class Step:
    """One operation, its results, the path of the module that it comes from ("" for none), and its region (None: the
    operation is always done)."""

    operation: Operation
    results: tuple[Value, ...]
    module: str
    region: Region | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """A graph input: its value bears its name."""

    value: Value
    shape: Shape


@dataclass(frozen=True, slots=True)
class Output:
    """A graph output: the result of an operation that is no constant and no other output, under a name of its own."""

    name: str
    value: Value
    shape: Shape


@dataclass(frozen=True, slots=True)
class Graph:
    """One part of an export. Every step comes after those whose results it reads. Regions are for those who can leave
    work out: without them the results are the same.

    `precision` is the name of the dtype that "float" values have. `weights` counts the numbers in its floating-point
    constants, scalars left out.
    """

    name: str
    precision: str
    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]
    outputs: tuple[Output, ...]
    weights: int


def needed(steps: Sequence[Step], values: Iterable[Value]) -> list[Step]:
    """Those of `steps`, in order, without which `values` would not be known."""
    wanted, kept = set(values), list[Step]()
    for step in reversed(steps):
        if wanted.intersection(step.results):
            kept.append(step)
            wanted.update(step.operation.operands())
            wanted.update([step.region.live] if step.region else [])
    return kept[::-1]
