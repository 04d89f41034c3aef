"""What the emitted graphs are made of: every operation that a writer of graphs must know, and what exactly it computes.

An operation is pure, so equal ones are one. Axes count from 0, or from -1 backwards. Elementwise operations broadcast
as NumPy does, and their operands are of one kind. Nothing reads outside of a value: indices lie in `[0, size)`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from numpy.typing import NDArray

from pixelsnail_infer.export.emission.graph import Kind, Operation, Value
from pixelsnail_infer.export.emission.lanes import Pick, Put

__all__ = ["OPERATIONS", "ArgMax", "Binary", "BinaryFn", "Border", "Cast", "Clip", "Concat", "Constant", "Convolve",
           "Copy", "CumulativeSum", "Elu", "Expand", "Gather", "GatherCells", "GatherEach", "GridConstant",
           "LeakyRelu", "Linear", "MatMul", "Number", "OnGrid", "Pad", "Pick", "Put", "Reduce", "ReduceFn", "Reshape",
           "Slice", "Softmax", "Split", "Squeeze", "Top", "Transpose", "Unary", "UnaryFn", "Unsqueeze", "Where",
           "Write"]

UnaryFn = Literal["neg", "abs", "exp", "log", "sqrt", "reciprocal", "round", "relu", "sigmoid", "tanh", "softplus",
                  "gelu", "gelu_tanh", "not", "isnan"]
BinaryFn = Literal["add", "sub", "mul", "div", "mod", "pow", "max", "min", "eq", "lt", "le", "gt", "ge", "and", "or"]
ReduceFn = Literal["max", "sum", "mean"]
Number = float | int | bool


@dataclass(frozen=True, slots=True)
class Constant(Operation):
    """`array`, of the graph's precision, float32, int64 or bool. `digest` is of its dtype, shape and numbers."""
    digest: str
    array: NDArray[Any] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Copy(Operation):
    """`value` once more: an output that is also an input, a constant or another output is a copy."""
    value: Value


@dataclass(frozen=True, slots=True)
class Cast(Operation):
    """`value` as another kind. To "int" it drops the fraction; to "bool" it tells what is not 0; true is 1; from "wide"
    to "float" it rounds to the nearest, beyond the largest number to infinity."""
    value: Value
    kind: Kind


@dataclass(frozen=True, slots=True)
class Unary(Operation):
    """A function of every number. "round" takes ties to the even neighbour; "softplus" is log(1 + e^x); "gelu" is
    x Φ(x), "gelu_tanh" its approximation by tanh; "not" is of truth values; "isnan" gives them."""
    fn: UnaryFn
    value: Value


@dataclass(frozen=True, slots=True)
class Elu(Operation):
    """x where x > 0, else alpha (e^x - 1)."""
    value: Value
    alpha: float


@dataclass(frozen=True, slots=True)
class LeakyRelu(Operation):
    """x where x > 0, else slope x."""
    value: Value
    slope: float


@dataclass(frozen=True, slots=True)
class Clip(Operation):
    """`low` where x < low, `high` where x > high, else x."""
    value: Value
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Binary(Operation):
    """A function of two. Of whole numbers, "div" takes none below 0 and rounds down; "mod" lies in [0, b), for
    b > 0. "eq", "lt", "le", "gt", "ge" give truth values; "and", "or" take and give them."""
    fn: BinaryFn
    a: Value
    b: Value


@dataclass(frozen=True, slots=True)
class Where(Operation):
    """`yes` where the mask holds, else `no`; what is not chosen may be anything, NaN too. All three broadcast."""
    mask: Value
    yes: Value
    no: Value


@dataclass(frozen=True, slots=True)
class Reshape(Operation):
    """The same numbers in the same order as `shape`; a 0 there is the size that the value has on that axis."""
    value: Value
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unsqueeze(Operation):
    """New axes of size 1 at the places `axes` of the result."""
    value: Value
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Squeeze(Operation):
    """Without the `axes`, which are of size 1."""
    value: Value
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Transpose(Operation):
    """Axis k of the result is axis `order[k]` of the value."""
    value: Value
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Expand(Operation):
    """`value` broadcast against the shape `[*like.shape[:lead], *sizes]`; without `like`, against `sizes`."""
    value: Value
    sizes: tuple[int, ...]
    like: Value | None
    lead: int


@dataclass(frozen=True, slots=True)
class Concat(Operation):
    """The values one after the other along an axis; their other sizes are equal."""
    values: tuple[Value, ...]
    axis: int


@dataclass(frozen=True, slots=True)
class Split(Operation):
    """Pieces of these sizes along an axis, which they fill: one result for each."""
    value: Value
    sizes: tuple[int, ...]
    axis: int


@dataclass(frozen=True, slots=True)
class Slice(Operation):
    """The places from `start` to before `end` along an axis; a state as the `end` is the size of its axis 2."""
    value: Value
    start: int
    end: int | Value
    axis: int


@dataclass(frozen=True, slots=True)
class Pad(Operation):
    """`low[k]` entries more before axis k and `high[k]` after it, which hold `fill`; None is 0. Below 0, so many are
    then cut off, new ones of the other side too."""
    value: Value
    low: tuple[int, ...]
    high: tuple[int, ...]
    fill: Number | None


@dataclass(frozen=True, slots=True)
class Border(Operation):
    """`value [B, W, *channels]` with so many columns `left` and `right` of it, not both 0, that hold `fill`,
    `[1, 1, *channels]`."""
    value: Value
    left: int
    right: int
    fill: Constant


@dataclass(frozen=True, slots=True)
class Gather(Operation):
    """`index`, of any shape, picks along an axis: the result has the index's axes in the place of that axis."""
    value: Value
    index: Value
    axis: int


@dataclass(frozen=True, slots=True)
class GatherCells(Operation):
    """`value [B, ...]` at `index [B, *places, n]`: as `Pick` for each slot by itself, `[B, *places, *rest]`."""
    value: Value
    index: Value


@dataclass(frozen=True, slots=True)
class GatherEach(Operation):
    """result[.., i, ..] = value[.., index[.., i, ..], ..] along the axis; both have the same other sizes."""
    value: Value
    index: Value
    axis: int


@dataclass(frozen=True, slots=True)
class Write(Operation):
    """The state `[B, N, S, C]` with `update [B, N, n, C]` at `start [B]` along axis 2; `start + n` is at most S.

    `state` is a graph input and the result a graph output, which a caller may bind to one buffer: then this is done in
    place. No later operation reads the state as it was.
    """
    state: Value
    update: Value
    start: Value


@dataclass(frozen=True, slots=True)
class Reduce(Operation):
    """Maximum, sum or mean along an axis, which stays with size 1 if `keep`."""
    fn: ReduceFn
    value: Value
    axis: int
    keep: bool


@dataclass(frozen=True, slots=True)
class ArgMax(Operation):
    """Where the largest number stands along an axis, the first of equal ones; the axis stays with size 1 if `keep`."""
    value: Value
    axis: int
    keep: bool


@dataclass(frozen=True, slots=True)
class Top(Operation):
    """The `count` largest numbers along an axis in descending order, and their places; of equal ones the lowest."""
    value: Value
    count: int
    axis: int


@dataclass(frozen=True, slots=True)
class CumulativeSum(Operation):
    """At each place along an axis the sum of what stands before it: first 0."""
    value: Value
    axis: int


@dataclass(frozen=True, slots=True)
class Softmax(Operation):
    """e^x divided by its sum along an axis; `log`: the logarithm of that. -inf gives 0."""
    value: Value
    axis: int
    log: bool


@dataclass(frozen=True, slots=True)
class MatMul(Operation):
    """The product of the last two axes; axes before them broadcast."""
    a: Value
    b: Value


@dataclass(frozen=True, slots=True)
class OnGrid(Operation):
    """`value` on the grid of int8: scale k for the whole number k from -128 to 127 that is nearest to value / scale (to
    the even one of two)."""
    value: Value
    scale: float


@dataclass(frozen=True, slots=True)
class GridConstant(Operation):
    """Whole numbers times float32 scales of the last axis: a matrix of int8, a vector of int32. `digest` is of both."""
    digest: str
    numbers: NDArray[Any] = field(compare=False, repr=False)
    scales: NDArray[Any] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Linear(Operation):
    """`value [B, in] @ weight [in, out] + bias [out]`."""
    value: Value
    weight: Value
    bias: Value


@dataclass(frozen=True, slots=True)
class Convolve(Operation):
    """`image [B, C, h, w]` under `kernel [out, C, kh, kw]` (not flipped), zeros outside: `low` rows and columns of them
    before, `high` after; plus `bias [out]`. Of the rows and columns of results every first one of `every` many."""
    image: Value
    kernel: Constant
    bias: Value | None
    low: tuple[int, int]
    high: tuple[int, int]
    every: tuple[int, int] = (1, 1)


OPERATIONS: tuple[type[Operation], ...] = (
    Constant, Copy, Cast, Unary, Elu, LeakyRelu, Clip, Binary, Where, Reshape, Unsqueeze, Squeeze, Transpose, Expand,
    Concat, Split, Slice, Pad, Border, Gather, GatherCells, GatherEach, Write, Pick, Put, Reduce, ArgMax, Top,
    CumulativeSum, Softmax, MatMul, OnGrid, GridConstant, Linear, Convolve)
