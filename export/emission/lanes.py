"""Operations of the vocabulary that a wavefront takes, whose lanes have slots, rows and columns of their own."""

from __future__ import annotations

from dataclasses import dataclass

from pixelsnail_infer.export.emission.graph import Operation, Value

__all__ = ["Pick", "Put"]


@dataclass(frozen=True, slots=True)
class Pick(Operation):
    """`value` at `index [*places, n]`: its first n axes are indexed by the last axis of the index, `[*places, *rest]`.
    """
    value: Value
    index: Value


@dataclass(frozen=True, slots=True)
class Put(Operation):
    """The state `[B, N, S, C]` with `update [*places, C]` at `index [*places, 3]`, no place twice. In place as `Write`
    is, and under its rules."""
    state: Value
    update: Value
    index: Value
