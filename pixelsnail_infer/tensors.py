"""The tensors that go from one graph of an export to the next, as its manifest describes them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pixelsnail_infer.checks import EXPORT_AGAIN, among, at_least, prefix, sizes
from pixelsnail_infer.errors import ManifestError
from pixelsnail_infer.messages import shown

__all__ = ["ITEM_BYTES", "PrologueSpec", "RowResultSpec", "StateSpec", "StridedRowSpec"]

ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int64": 8}
_LARGEST = {"float32": (2 - 2**-23) * 2.0**127, "float16": 65504.0, "bfloat16": (2 - 2**-7) * 2.0**127, "int64": 2**53}
"""Of a state's initial value, which is exact also as a float64."""


@dataclass(frozen=True, slots=True)
class PrologueSpec:
    """One prologue tensor `prologue.<k>`; `shape` is without the batch axis."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        prefix(self.name, "prologue.")
        among(self.dtype, tuple(ITEM_BYTES), f"{self.name}: dtype")
        sizes(self.shape, None, f"{self.name}: shape")


@dataclass(frozen=True, slots=True)
class StateSpec:
    """One state `state.<name>`: `shape` [N, S, C] without the batch axis, written along S by the graph `writer`."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    initial: float
    role: str
    writer: str

    def __post_init__(self) -> None:
        prefix(self.name, "state.")
        among(self.dtype, tuple(ITEM_BYTES), f"{self.name}: dtype")
        among(self.role, ("pixels", "canvas", "keys", "values", "row"), f"{self.name}: role")
        among(self.writer, ("step", "row", "wave"), f"{self.name}: writer")
        sizes(self.shape, 3, f"{self.name}: shape")
        if not abs(self.initial) <= _LARGEST[self.dtype] or (self.dtype == "int64" and self.initial % 1):
            what = f"{self.name}: initial {shown(self.initial)} is no finite {self.dtype}"
            raise ManifestError(f"{what}; {EXPORT_AGAIN}.")

    @property
    def bytes_per_slot(self) -> int:
        """Exact bytes of this state for one slot."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class RowResultSpec:
    """The packed row result, [B, W, width]; `dtype` where it is another than the precision's."""

    width: int
    dtype: str | None = None

    def __post_init__(self) -> None:
        at_least(self.width, 1, "row_result.width")
        if self.dtype is not None:
            among(self.dtype, ("float32",), "row_result.dtype")


@dataclass(frozen=True, slots=True)
class StridedRowSpec:
    """A row result of values that are not computed in every column, `row_result.<k>`: `shape` is [columns, width],
    without the batch axis."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        prefix(self.name, "row_result.")
        among(self.dtype, tuple(ITEM_BYTES), f"{self.name}: dtype")
        sizes(self.shape, 2, f"{self.name}: shape")
