"""Tensors that share memory: what each of them shows of it, and what a write into one of them makes of the others.

A memory has one root, and below it views: each is what one operation (a `Step`) shows of its parent. Nothing is changed
in place in a trace. A write gives the view a new value, and from it, step by step upwards, its parents: a slice is
scattered into what it was cut from, a permute is turned back. Every other view is derived again when it is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.tracing.traced import Ref, Where

__all__ = ["Alias", "Memory", "Step", "read", "steps_of", "write"]

SAME = ("alias", "detach", "lift_fresh", "_conj", "view_as")
RESHAPES = ("view", "_unsafe_view", "reshape", "_reshape_alias", "squeeze", "expand")
END = 1 << 62

Record = Callable[[str, tuple[Any, ...], dict[str, Any], tuple[int, ...], Where], int]


@dataclass(frozen=True, slots=True)
class Step:
    """One view operation: `op(parent, *args)`."""

    op: str
    args: tuple[Any, ...]
    where: Where


@dataclass(slots=True, eq=False)
class Memory:
    """What lies in one storage. `version` counts the writes; a constant's numbers are in no trace until `tracked`."""

    version: int = 0
    tracked: bool = False
    aliases: list[Alias] = field(default_factory=list)

    def root(self, tensor: torch.Tensor) -> Alias:
        return self.add(tensor, None, None)

    def add(self, tensor: torch.Tensor, parent: Alias | None, step: Step | None, number: int | None = None) -> Alias:
        alias = Alias(self, parent, step, tuple(tensor.shape), tensor.stride(),
                      int(tensor.storage_offset()), tensor.dtype, number, self.version)
        self.aliases.append(alias)
        return alias

    def like(self, tensor: torch.Tensor) -> Alias | None:
        """The alias that shows the same numbers in the same places as `tensor`."""
        found = (tuple(tensor.shape), tensor.stride(), tensor.storage_offset(), tensor.dtype)
        return next((a for a in self.aliases if (a.shape, a.strides, a.offset, a.dtype) == found), None)


@dataclass(slots=True, eq=False)
class Alias:
    """What one tensor shows of a memory: its parent after one step. `number` is its value in the trace as of
    `version`; the root's is always that of now."""

    memory: Memory
    parent: Alias | None
    step: Step | None
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    dtype: torch.dtype
    number: int | None
    version: int


def steps_of(op: str, args: tuple[Any, ...], kwargs: dict[str, Any], where: Where, count: int) -> list[Step]:
    """The step that leads from the first argument of a view operation to each of its `count` results."""
    rest = tuple(args[1:])
    if op in ("split", "split_with_sizes", "chunk", "unbind"):
        axis = rest[-1] if op == "unbind" and rest else rest[1] if len(rest) > 1 else kwargs.get("dim", 0)
        if op == "unbind":
            return [Step("select", (axis, k), where) for k in range(count)]
        total, sizes = args[0].shape[axis], rest[0]
        if op == "chunk":
            sizes = -(-total // sizes)
        ends = [min(sizes * (k + 1), total) for k in range(count)] if isinstance(sizes, int) else \
            [sum(sizes[:k + 1]) for k in range(count)]
        return [Step("slice", (axis, start, end), where) for start, end in zip([0, *ends], ends, strict=False)]
    return [Step("alias" if op in SAME else op, () if op in SAME else rest, where)]


def read(alias: Alias, record: Record) -> int:
    """The number of the alias's present value, derived again from its parent where something was written since."""
    if alias.number is None or alias.version != alias.memory.version:
        if alias.parent is None or alias.step is None:
            raise UnsupportedOpError("a tensor is read that shares memory with one that was changed in place, in a way "
                                     "that the recording did not see. Make it in the forward, as a view of the other.")
        source, step = read(alias.parent, record), alias.step
        alias.number = source if step.op == "alias" else record(step.op, (Ref(source), *step.args), {}, alias.shape,
                                                                step.where)
        alias.version = alias.memory.version
    return alias.number


def write(alias: Alias, number: int, where: Where, record: Record) -> None:
    """From now on `alias` shows value `number`, and whatever shares its memory follows."""
    path, current = [(alias, number)], alias
    while current.parent is not None and current.step is not None:
        number = _undone(current, current.parent, current.step, number, where, record)
        current = current.parent
        path.append((current, number))
    if current is not alias.memory.aliases[0]:
        raise UnsupportedOpError(f"{where} writes into a tensor that shares memory with others in a way that the "
                                 "recording did not see. Make it in the forward, as a view of the other.")
    alias.memory.version += 1
    for changed, value in path:
        changed.number, changed.version = value, alias.memory.version


def _undone(child: Alias, parent: Alias, step: Step, number: int, where: Where, record: Record) -> int:
    """The parent's new value where `child`, which is `step` of it, has become `number`."""

    def made(op: str, *args: Any) -> int:
        return record(op, args, {}, parent.shape, where)

    rank, args = len(parent.shape), step.args
    if step.op == "alias" or (step.op in RESHAPES and child.shape == parent.shape):
        return number
    if step.op in RESHAPES and math.prod(child.shape) == math.prod(parent.shape):
        return made("view", Ref(number), list(parent.shape))
    if step.op == "unsqueeze":
        return made("squeeze", Ref(number), args[0] % (rank + 1))
    if step.op in ("transpose", "t"):
        return made(step.op, Ref(number), *args)
    if step.op == "permute":
        order = [axis % rank for axis in args[0]]
        return made("permute", Ref(number), [order.index(axis) for axis in range(rank)])
    if step.op == "select":
        axis = args[0] % rank
        return made("select_scatter", Ref(read(parent, record)), Ref(number), axis, args[1] % parent.shape[axis])
    if step.op == "slice":
        axis, start, end, by = args + (0, None, None, 1)[len(args):]
        axis %= rank
        start, end, by = slice(start, end, by).indices(parent.shape[axis])
        if (start, end, by) == (0, parent.shape[axis], 1):
            return number
        return made("slice_scatter", Ref(read(parent, record)), Ref(number), axis, start, end, by)
    raise UnsupportedOpError(
        f"{where} writes into {step.where}, a view in which one number may stand at several places or in an order that "
        "is not understood. Write into a clone of it, or into slices.")
