"""A second writer: the graphs run at once in PyTorch, operation by operation, with no ONNX. It is slow and strict.

Every result must have the kind that the graph says. Indices outside of a value are errors. A state is written where it
lies, so that an operation that reads the old state after the write is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pixelsnail_infer.export.emission import vocabulary as v
from pixelsnail_infer.export.emission.builder import HALVES
from pixelsnail_infer.export.emission.graph import Graph, Kind, Operation, Value

from .drive import Arrays

Handler = Callable[[Any, Any], Tensor | tuple[Tensor, ...]]

UNARY: dict[v.UnaryFn, Callable[[Tensor], Tensor]] = {
    "neg": torch.neg, "abs": torch.abs, "exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt,
    "reciprocal": torch.reciprocal, "round": torch.round, "relu": torch.relu, "sigmoid": torch.sigmoid,
    "tanh": torch.tanh, "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)), "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "not": torch.logical_not, "isnan": torch.isnan,
}
BINARY: dict[v.BinaryFn, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "pow": torch.pow, "max": torch.maximum, "min": torch.minimum,
    "div": lambda a, b: a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="floor"),
    "mod": torch.remainder, "eq": torch.eq, "lt": torch.lt, "le": torch.le, "gt": torch.gt, "ge": torch.ge,
    "and": torch.logical_and, "or": torch.logical_or,
}
REDUCE: dict[v.ReduceFn, Callable[..., Tensor]] = {"max": torch.amax, "sum": torch.sum, "mean": torch.mean}
DTYPES: dict[Kind, torch.dtype] = {"wide": torch.float32, "int": torch.int64, "bool": torch.bool}
FLOATS = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16}


class Held(dict[Value, Tensor]):
    """Results by value, which handlers ask for, and the dtypes of the graph."""

    dtypes: dict[Kind, torch.dtype]

    def __call__(self, value: Value) -> Tensor:
        return self[value]


class Eager:
    """One graph in float64, float32 or float16, ready to run."""

    def __init__(self, graph: Graph) -> None:
        check(graph)
        self.dtypes: dict[Kind, torch.dtype] = {**DTYPES, "float": FLOATS[graph.precision]}
        assert graph.precision in HALVES or not [step for step in graph.steps if step.results[0].kind == "wide"]
        self.graph = graph
        self.inputs = tuple(entry.value.name for entry in graph.inputs)
        self.constants = {step.results[0]: HANDLERS[v.Constant](step.operation, {}.__getitem__)
                          for step in graph.steps if isinstance(step.operation, v.Constant)}
        self.steps = [step for step in graph.steps if not isinstance(step.operation, v.Constant)]

    def run(self, feeds: Arrays) -> Arrays:
        """All outputs by name; a written state lies in the memory of its input."""
        values = Held(self.constants)
        values.dtypes = self.dtypes
        values |= {entry.value: torch.from_numpy(feeds[entry.value.name]) for entry in self.graph.inputs}
        for step in self.steps:
            found = HANDLERS[type(step.operation)](step.operation, values)
            for result, tensor in zip(step.results, found if isinstance(found, tuple) else (found,), strict=True):
                assert tensor.dtype == self.dtypes[result.kind], (step, tensor.dtype)
                values[result] = tensor
        return {output.name: values[output.value].numpy() for output in self.graph.outputs}


def check(graph: Graph) -> None:
    """Every operand is there, and a state is written from an input to an output, after everything that reads it."""
    inputs, outputs = {entry.value for entry in graph.inputs}, {output.value for output in graph.outputs}
    known, gone = set(inputs), set[Value]()
    for step in graph.steps:
        operands = set(step.operation.operands())
        assert operands <= known - gone, step
        if isinstance(step.operation, (v.Write, v.Put)):
            assert step.operation.state in inputs and set(step.results) <= outputs, step
            gone.add(step.operation.state)
        known |= set(step.results)
    assert outputs <= known - gone and len(outputs) == len(graph.outputs)


def _unsqueeze(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _squeeze(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    assert all(x.shape[axis] == 1 for axis in axes)
    return x.squeeze(axes)


def _expand(op: v.Expand, at: Callable[[Value], Tensor]) -> Tensor:
    shape = (*(at(op.like).shape[:op.lead] if op.like is not None else ()), *op.sizes)
    return at(op.value).expand(torch.broadcast_shapes(at(op.value).shape, shape))


def _pad(op: v.Pad, at: Callable[[Value], Tensor]) -> Tensor:
    widths = [width for low, high in zip(reversed(op.low), reversed(op.high), strict=True) for width in (low, high)]
    value = F.pad(at(op.value), [max(0, width) for width in widths], value=op.fill or 0)
    return F.pad(value, [min(0, width) for width in widths])


def _slice(op: v.Slice, at: Callable[[Value], Tensor]) -> Tensor:
    end = op.end if isinstance(op.end, int) else at(op.end).shape[2]
    return at(op.value).narrow(op.axis, op.start, end - op.start)


def _border(op: v.Border, at: Callable[[Value], Tensor]) -> Tensor:
    value, fill = at(op.value), torch.from_numpy(op.fill.array)
    sides = [fill.expand(value.shape[0], columns, *value.shape[2:]) for columns in (op.left, op.right)]
    return torch.cat([sides[0], value, sides[1]], 1)


def _gather(op: v.Gather, at: Callable[[Value], Tensor]) -> Tensor:
    value, index = at(op.value), at(op.index)
    return value.index_select(op.axis, index.flatten()).unflatten(op.axis, index.shape)


def _gather_cells(op: v.GatherCells, at: Callable[[Value], Tensor]) -> Tensor:
    value, index = at(op.value), at(op.index)
    assert bool((index >= 0).all()) and len(value) == len(index)
    slots = torch.arange(len(index)).view(-1, *(1,) * (index.ndim - 2))
    return value[(slots, *index.unbind(-1))]


def _write(op: v.Write, at: Callable[[Value], Tensor]) -> Tensor:
    state, update, starts = at(op.state), at(op.update), at(op.start)
    for slot, start in enumerate(starts.tolist()):
        assert 0 <= start <= state.shape[2] - update.shape[2]
        state[slot, :, start:start + update.shape[2]] = update[slot]
    return state


def _pick(op: v.Pick, at: Callable[[Value], Tensor]) -> Tensor:
    value, index = at(op.value), at(op.index)
    assert bool((index >= 0).all())
    return value[index.unbind(-1)]


def _put(op: v.Put, at: Callable[[Value], Tensor]) -> Tensor:
    state, update, index = at(op.state), at(op.update), at(op.index)
    assert bool((index >= 0).all()) and len(index.flatten(0, -2).unique(dim=0)) == index[..., 0].numel()
    state[index.unbind(-1)] = update
    return state


def _argmax(op: v.ArgMax, at: Callable[[Value], Tensor]) -> Tensor:
    return torch.from_numpy(np.asarray(np.argmax(at(op.value).numpy(), op.axis, keepdims=op.keep)))


def _top(op: v.Top, at: Callable[[Value], Tensor]) -> tuple[Tensor, ...]:
    return tuple(part.narrow(op.axis, 0, op.count)
                 for part in torch.sort(at(op.value), dim=op.axis, descending=True, stable=True))


def _cumulative_sum(op: v.CumulativeSum, at: Callable[[Value], Tensor]) -> Tensor:
    value = at(op.value)
    before = value.narrow(op.axis, 0, value.shape[op.axis] - 1).cumsum(op.axis)
    return torch.cat([torch.zeros_like(value.narrow(op.axis, 0, 1)), before], op.axis)


def _softmax(op: v.Softmax, at: Callable[[Value], Tensor]) -> Tensor:
    return (torch.log_softmax if op.log else torch.softmax)(at(op.value), op.axis)


def _convolve(op: v.Convolve, at: Callable[[Value], Tensor]) -> Tensor:
    (top, left), (bottom, right) = op.low, op.high
    image = F.pad(at(op.image), [left, right, top, bottom])
    return F.conv2d(image, torch.from_numpy(op.kernel.array), None if op.bias is None else at(op.bias),
                    stride=op.every)


HANDLERS: dict[type[Operation], Handler] = {
    v.Constant: lambda op, at: torch.from_numpy(op.array),
    v.Copy: lambda op, at: at(op.value).clone(),
    v.Cast: lambda op, at: at(op.value).to(at.dtypes[op.kind]),
    v.Unary: lambda op, at: UNARY[op.fn](at(op.value)),
    v.Elu: lambda op, at: F.elu(at(op.value), op.alpha),
    v.LeakyRelu: lambda op, at: F.leaky_relu(at(op.value), op.slope),
    v.Clip: lambda op, at: at(op.value).clamp(op.low, op.high),
    v.Binary: lambda op, at: BINARY[op.fn](at(op.a), at(op.b)),
    v.Where: lambda op, at: torch.where(at(op.mask), at(op.yes), at(op.no)),
    v.Reshape: lambda op, at: at(op.value).reshape([n or at(op.value).shape[k] for k, n in enumerate(op.shape)]),
    v.Unsqueeze: lambda op, at: _unsqueeze(at(op.value), op.axes),
    v.Squeeze: lambda op, at: _squeeze(at(op.value), op.axes),
    v.Transpose: lambda op, at: at(op.value).permute(op.order),
    v.Expand: _expand,
    v.Concat: lambda op, at: torch.cat([at(value) for value in op.values], op.axis),
    v.Split: lambda op, at: at(op.value).split(op.sizes, op.axis),
    v.Slice: _slice,
    v.Pad: _pad,
    v.Border: _border,
    v.Gather: _gather,
    v.GatherCells: _gather_cells,
    v.GatherEach: lambda op, at: at(op.value).gather(op.axis, at(op.index)),
    v.Write: _write,
    v.Pick: _pick,
    v.Put: _put,
    v.Reduce: lambda op, at: REDUCE[op.fn](at(op.value), op.axis, op.keep),
    v.ArgMax: _argmax,
    v.Top: _top,
    v.CumulativeSum: _cumulative_sum,
    v.Softmax: _softmax,
    v.OnGrid: lambda op, at: torch.clamp(torch.round(at(op.value) / op.scale), -128, 127) * op.scale,
    v.GridConstant: lambda op, at: torch.from_numpy(op.numbers * op.scales).float(),
    v.MatMul: lambda op, at: torch.matmul(at(op.a), at(op.b)),
    v.Linear: lambda op, at: torch.addmm(at(op.bias), at(op.value), at(op.weight)),
    v.Convolve: _convolve,
}
