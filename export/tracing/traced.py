"""What a trace consists of: operations in order, their arguments, and where in the model they stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

__all__ = ["BatchInt", "InputSpec", "Ref", "Trace", "TraceNode", "Where", "references"]


@dataclass(frozen=True, slots=True)
class BatchInt:
    """An integer that is `factor` times the batch size."""

    factor: int


@dataclass(frozen=True, slots=True)
class Ref:
    """A traced value, by its number."""

    index: int


@dataclass(frozen=True, slots=True)
class Where:
    """Where an operation stands: module path, operation, and the line of the model's source that called it."""

    module: str
    op: str
    line: str

    def __str__(self) -> str:
        return f"{self.op} in module '{self.module or '(root)'}' ({self.line})"


@dataclass(slots=True)
class TraceNode:
    """One recorded operation. Arguments hold `Ref`, constant tensors, numbers and `BatchInt`."""

    op: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[int, ...]
    where: Where


@dataclass(frozen=True, slots=True)
class InputSpec:
    """A traced input: `shape` without the batch; integer inputs are codes or labels below `levels`."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    levels: int | None = None

    def example(self, batch: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        """A valid value of this input, `[batch, *shape]`."""
        if self.dtype.is_floating_point:
            return torch.rand(batch, *self.shape, dtype=dtype or self.dtype)
        return torch.randint(self.levels or 1, (batch, *self.shape), dtype=self.dtype)


@dataclass(slots=True)
class Trace:
    """All recorded operations in order. Value k of `inputs` is numbered k; shapes may hold `BatchInt`."""

    inputs: tuple[InputSpec, ...]
    nodes: list[TraceNode]
    output: Ref
    shapes: dict[int, tuple[int | BatchInt, ...]] = field(default_factory=dict)


def references(tree: Any) -> Iterator[int]:
    """The numbers of the values that arguments refer to."""
    if isinstance(tree, Ref):
        yield tree.index
    elif isinstance(tree, (list, tuple)):
        for item in tree:
            yield from references(item)
    elif isinstance(tree, dict):
        yield from references(tuple(tree.values()))
