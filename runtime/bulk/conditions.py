"""Conditions of a job: lists of classes that are cycled over its images, and arrays; those of any images of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.manifest import ConditionSpec
from pixelsnail_infer.runtime.requests.conditions import resolve_condition

__all__ = ["BulkConditions", "make_conditions"]


@dataclass(frozen=True, slots=True)
class BulkConditions:
    """By name: `cycles` are classes int64 [m], of which image k has number k modulo m; `shared` are values that count
    for every image; `each` are arrays [n, …] with one for each."""

    cycles: dict[str, NDArray[np.int64]]
    shared: dict[str, Any]
    each: dict[str, NDArray[Any]]

    def of(self, first: int, count: int) -> dict[str, Any]:
        """The conditions of images first … first + count - 1, as a call takes them."""
        numbers = np.arange(first, first + count)
        cycled = {name: classes[numbers % len(classes)] for name, classes in self.cycles.items()}
        return {**cycled, **self.shared, **{name: held[first : first + count] for name, held in self.each.items()}}

    def digests(self) -> dict[str, str]:
        """The sha256 of every array, with its dtype and shape."""
        return {name: _digest(held) for name, held in {**self.shared, **self.each}.items()}


def make_conditions(
    specs: Sequence[ConditionSpec], cycles: Mapping[str, NDArray[np.int64]], values: Mapping[str, Any], n: int
) -> BulkConditions:
    """Check the values of all n images now. What `specs` do not name is passed on, for the call to refuse. Raises
    `RequestError`."""
    by_name = {spec.name: spec for spec in specs}
    shared: dict[str, Any] = {}
    each: dict[str, NDArray[Any]] = {}
    for name, classes in cycles.items():
        if name in by_name:
            resolve_condition(by_name[name], classes, len(classes))
    for name, value in values.items():
        spec = by_name.get(name)
        if spec is None or np.ndim(value) == len(spec.shape):
            shared[name] = value if spec is None else resolve_condition(spec, value, 1)[0]
        else:
            each[name] = resolve_condition(spec, value, n)
    return BulkConditions(dict(cycles), shared, each)


def _digest(value: Any) -> str:
    array = np.ascontiguousarray(value)
    digest = hashlib.sha256(f"{array.dtype.str} {np.shape(value)} ".encode())
    digest.update(array.tobytes())
    return digest.hexdigest()
