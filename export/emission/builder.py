"""Decide a graph, an operation at a time: equal operations become one, and equal constants one.

In a graph of half precision there are two kinds of floating-point values, see `graph.Kind`. The builder keeps them
apart: sums, softmaxes and functions that half precision would overflow or coarsen take and give "wide" ones, operands
of different kinds become "wide", and numbers become constants of the kind that they are used with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from pixelsnail_infer.export.emission import vocabulary as v
from pixelsnail_infer.export.emission.constants import MOST, grid_constant, made_constant
from pixelsnail_infer.export.emission.graph import Graph, Input, Kind, Operation, Output, Region, Step, Value, needed
from pixelsnail_infer.export.emission.kinds import FLOATS, HALVES, kind_of
from pixelsnail_infer.export.emission.regions import check_regions
from pixelsnail_infer.export.fields import Node

__all__ = ["FLOATS", "HALVES", "MOST", "GraphBuilder", "Operand", "kind_of"]

Numbers = torch.Tensor | Sequence[Any] | float | int
Operand = Value | Numbers
"""A value, or numbers that become a constant."""
COMPARISONS = ("eq", "lt", "le", "gt", "ge")
CONSTANTS = (v.Constant, v.GridConstant)
WIDE = ("exp", "log", "sqrt", "reciprocal", "softplus", "pow")  # as PyTorch's autocast has it


class GraphBuilder:
    """Collects one graph. A method for each operation of the vocabulary, which says what it computes.

    `module` is the path of the module that the next operations come from, `region` what they are done in (None:
    always); constants are in none. Not to be shared by threads.
    """

    def __init__(self, name: str, precision: str = "float32", scales: Mapping[Node, float] | None = None) -> None:
        self.name, self.precision = name, precision
        self.scales = scales or {}  # of the products of int8, what they multiply
        self.half = precision in HALVES
        self.wide: Kind = "wide" if self.half else "float"  # what is never half
        self.module = ""
        self.region: Region | None = None
        self._inputs: dict[str, Input] = {}
        self._outputs: list[Output] = []
        self._steps: list[Step] = []
        self._known: dict[tuple[Region | None, Operation], tuple[Value, ...]] = {}
        self._made: dict[Value, Operation] = {}
        self._weights: dict[str, int] = {}

    def graph(self) -> Graph:
        """What was collected."""
        results = [output.value for output in self._outputs]
        steps = needed(self._steps, results)
        check_regions(steps, results)
        return Graph(self.name, self.precision, tuple(self._inputs.values()), tuple(steps),
                     tuple(self._outputs), sum(self._weights.values()))

    @contextmanager
    def within(self, region: Region | None) -> Iterator[Region | None]:
        """The next operations are of this region."""
        before, self.region = self.region, region
        try:
            yield region
        finally:
            self.region = before

    def as_kind(self, value: Value, kind: Kind) -> Value:
        """A floating-point `value` as this kind of them; any other as it is."""
        return self.cast(value, kind) if value.kind in FLOATS and value.kind != kind else value

    def widened(self, value: Value) -> Value:
        """A floating-point `value` as float32 where the graph's precision is half of that."""
        return self.as_kind(value, self.wide)

    def alike(self, values: Sequence[Value]) -> list[Value]:
        """The values, of which the floating-point ones are of one kind: float32 if any of them is."""
        kind = self.wide if any(value.kind == "wide" for value in values) else "float"
        return [self.as_kind(value, kind) for value in values]

    def input(self, name: str, kind: Kind, shape: Sequence[int | str]) -> Value:
        """Declare a graph input, once however often it is asked for."""
        return self._inputs.setdefault(name, Input(Value(name, kind), tuple(shape))).value

    def output(self, name: str, value: Value, shape: Sequence[int | str]) -> None:
        """Declare a graph output. What cannot be one by itself is copied."""
        taken = value in (output.value for output in self._outputs)
        computed = any(value in step.results for step in self._steps if not isinstance(step.operation, v.Constant))
        if taken or not computed:
            (value,) = self._append(v.Copy(value), value.kind)
        self._outputs.append(Output(name, value, tuple(shape)))

    def constant(self, numbers: Numbers, like: Kind = "float") -> Value:
        """A constant; floating-point numbers take the graph's precision, or float32 where they are used with "wide"
        ones, and a single number the shape `[1]`."""
        constant, kind = self._constant(numbers, like)
        return self._one(constant, kind)

    def copy(self, value: Value) -> Value:
        return self._one(v.Copy(value), value.kind)

    def cast(self, value: Value, kind: Kind) -> Value:
        return self._one(v.Cast(value, kind), kind)

    def typed(self, value: Value, dtype: torch.dtype) -> Value:
        """`value`, which states and row results hold as a floating-point number, in the kind that it has elsewhere."""
        return value if dtype.is_floating_point else self.cast(value, kind_of(dtype))

    def as_float(self, value: Value, kind: Kind = "float") -> Value:
        """`value` as states and row results of this kind hold it."""
        return value if value.kind == kind else self.cast(value, kind)

    def unary(self, fn: v.UnaryFn, value: Value) -> Value:
        value = self.widened(value) if fn in WIDE else value
        return self._one(v.Unary(fn, value), "bool" if fn in ("not", "isnan") else value.kind)

    def elu(self, value: Value, alpha: float) -> Value:
        return self._one(v.Elu(value, alpha), value.kind)

    def leaky_relu(self, value: Value, slope: float) -> Value:
        return self._one(v.LeakyRelu(value, slope), value.kind)

    def clip(self, value: Value, low: float, high: float) -> Value:
        return self._one(v.Clip(value, low, high), value.kind)

    def binary(self, fn: v.BinaryFn, a: Operand, b: Operand) -> Value:
        if fn in WIDE and isinstance(a, Value):
            a = self.widened(a)
        left, right = self._pair(a, b)
        assert left.kind == right.kind, (fn, left, right)
        return self._one(v.Binary(fn, left, right), "bool" if fn in COMPARISONS else left.kind)

    def add(self, a: Operand, b: Operand) -> Value:
        return self.binary("add", a, b)

    def sub(self, a: Operand, b: Operand) -> Value:
        return self.binary("sub", a, b)

    def mul(self, a: Operand, b: Operand) -> Value:
        return self.binary("mul", a, b)

    def div(self, a: Operand, b: Operand) -> Value:
        return self.binary("div", a, b)

    def mod(self, a: Operand, b: Operand) -> Value:
        return self.binary("mod", a, b)

    def both(self, a: Operand, b: Operand) -> Value:
        return self.binary("and", a, b)

    def where(self, mask: Operand, yes: Operand, no: Operand) -> Value:
        held, (first, second) = self._value(mask), self._pair(yes, no)
        turned = self._made.get(held)
        if isinstance(turned, v.Unary) and turned.fn == "not":
            held, first, second = turned.value, second, first
        assert held.kind == "bool" and first.kind == second.kind, (held, first, second)
        return self._one(v.Where(held, first, second), first.kind)

    def reshape(self, value: Value, shape: Sequence[int]) -> Value:
        before = self._made.get(value)
        if isinstance(before, v.Reshape):  # only the last shape counts; a 0 there is what the one before had
            shape = [size or before.shape[k] for k, size in enumerate(shape)]
            value = before.value
        return self._one(v.Reshape(value, tuple(shape)), value.kind)

    def unsqueeze(self, value: Value, *axes: int) -> Value:
        return self._one(v.Unsqueeze(value, axes), value.kind)

    def squeeze(self, value: Value, *axes: int) -> Value:
        return self._one(v.Squeeze(value, axes), value.kind)

    def transpose(self, value: Value, order: Sequence[int]) -> Value:
        return self._one(v.Transpose(value, tuple(order)), value.kind)

    def expand(self, value: Value, sizes: Sequence[int], like: Value | None = None, lead: int = 0) -> Value:
        return self._one(v.Expand(value, tuple(sizes), like, lead), value.kind)

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        """The values one after the other; a single one as it is."""
        values = self.alike(values)
        assert len({value.kind for value in values}) == 1, values
        return values[0] if len(values) == 1 else self._one(v.Concat(tuple(values), axis), values[0].kind)

    def split(self, value: Value, sizes: Sequence[int], axis: int) -> tuple[Value, ...]:
        return self._several(v.Split(value, tuple(sizes), axis), *(value.kind for _ in sizes))

    def slice(self, value: Value, start: int, end: int | Value, axis: int) -> Value:
        return self._one(v.Slice(value, start, end, axis), value.kind)

    def pad(self, value: Value, low: Sequence[int], high: Sequence[int], fill: v.Number | None = None) -> Value:
        return self._one(v.Pad(value, tuple(low), tuple(high), fill), value.kind)

    def border(self, value: Value, left: int, right: int, fill: torch.Tensor) -> Value:
        """`fill` is `[*channels]`."""
        return self._one(v.Border(value, left, right, self._constant(fill[None, None], value.kind)[0]), value.kind)

    def gather(self, value: Operand, index: Operand, axis: int) -> Value:
        whole = self._value(value)
        return self._one(v.Gather(whole, self._value(index), axis), whole.kind)

    def gather_cells(self, value: Value, index: Value) -> Value:
        return self._one(v.GatherCells(value, index), value.kind)

    def gather_each(self, value: Value, index: Value, axis: int) -> Value:
        return self._one(v.GatherEach(value, index, axis), value.kind)

    def write(self, state: Value, update: Value, start: Value) -> Value:
        return self._one(v.Write(state, update, start), state.kind)

    def pick(self, value: Value, index: Value) -> Value:
        return self._one(v.Pick(value, index), value.kind)

    def put(self, state: Value, update: Value, index: Value) -> Value:
        return self._one(v.Put(state, update, index), state.kind)

    def reduce(self, fn: v.ReduceFn, value: Value, axis: int, keep: bool = False) -> Value:
        value = self.widened(value) if fn != "max" else value
        return self._one(v.Reduce(fn, value, axis, keep), value.kind)

    def argmax(self, value: Value, axis: int, keep: bool = False) -> Value:
        return self._one(v.ArgMax(value, axis, keep), "int")

    def top(self, value: Value, count: int, axis: int) -> tuple[Value, ...]:
        return self._several(v.Top(value, count, axis), value.kind, "int")

    def cumulative_sum(self, value: Value, axis: int) -> Value:
        value = self.widened(value)
        return self._one(v.CumulativeSum(value, axis), value.kind)

    def softmax(self, value: Value, axis: int, log: bool = False) -> Value:
        value = self.widened(value)
        return self._one(v.Softmax(value, axis, log), value.kind)

    def matmul(self, a: Operand, b: Operand) -> Value:
        left, right = self._pair(a, b)
        return self._one(v.MatMul(left, right), left.kind)

    def on_grid(self, value: Value, scale: float) -> Value:
        """`value` rounded to the grid of int8 of this scale."""
        return self._one(v.OnGrid(value, scale), value.kind)

    def grid_constant(self, numbers: torch.Tensor, scales: torch.Tensor) -> Value:
        """`numbers [in, out]` rounded to a grid of int8 for each column, or `[out]` to one of int32 for each place;
        `scales [out]`."""
        constant = grid_constant(numbers, scales)
        self._weights[constant.digest] = constant.numbers.size
        return self._one(constant, "float")

    def linear(self, value: Value, weight: Operand, bias: Operand) -> Value:
        return self._one(v.Linear(value, self._pair(value, weight)[1], self._pair(value, bias)[1]), value.kind)

    def convolve(self, image: Value, kernel: Numbers, bias: Value | None, low: Sequence[int], high: Sequence[int],
                 every: tuple[int, int] = (1, 1)) -> Value:
        (top, left), (bottom, right) = low, high
        taps = self._constant(kernel, image.kind)[0]
        return self._one(v.Convolve(image, taps, bias, (top, left), (bottom, right), every), image.kind)

    def _constant(self, numbers: Numbers, like: Kind) -> tuple[v.Constant, Kind]:
        """The constant and its kind; of floating-point numbers that is `like`, if that is one of floats."""
        constant, kind = made_constant(numbers, like, self.precision, self.name)
        if constant.array.size > 1 and kind in FLOATS:
            self._weights[constant.digest] = constant.array.size
        return constant, kind

    def _value(self, operand: Operand, like: Kind = "float") -> Value:
        return operand if isinstance(operand, Value) else self.constant(operand, like)

    def _pair(self, a: Operand, b: Operand) -> list[Value]:
        """Two operands; floating-point ones of one kind."""
        like: Kind = next((one.kind for one in (a, b) if isinstance(one, Value)), "float")
        return self.alike([self._value(a, like), self._value(b, like)])

    def _one(self, operation: Operation, kind: Kind) -> Value:
        return self._several(operation, kind)[0]

    def _several(self, operation: Operation, *kinds: Kind) -> tuple[Value, ...]:
        """The results of an operation; of an equal one, if there is one that is always done or in the same region."""
        region = None if isinstance(operation, CONSTANTS) else self.region
        for where in (None, region):
            if (where, operation) in self._known:
                return self._known[where, operation]
        return self._known.setdefault((region, operation), self._append(operation, *kinds, region=region))

    def _append(self, operation: Operation, *kinds: Kind, region: Region | None = None) -> tuple[Value, ...]:
        results = tuple(Value(f"%{len(self._steps)}.{k}", kind) for k, kind in enumerate(kinds))
        self._steps.append(Step(operation, results, self.module, region))
        self._made.update(dict.fromkeys(results, operation))
        return results
