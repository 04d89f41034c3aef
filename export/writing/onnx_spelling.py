"""How ONNX spells each operation of the vocabulary, in the standard `ai.onnx` domain; in other words where ONNX Runtime
lacks one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pixelsnail_infer.export.emission import vocabulary as v
from pixelsnail_infer.export.emission.graph import Operation
from pixelsnail_infer.export.writing.onnx_nodes import Nodes

__all__ = ["BINARY", "REDUCE", "SPELLINGS", "UNARY"]

FAR = 2**31 - 1  # the end of an axis
UNARY: dict[v.UnaryFn, str] = {
    "neg": "Neg", "abs": "Abs", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "reciprocal": "Reciprocal",
    "round": "Round", "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softplus": "Softplus", "gelu": "Gelu",
    "gelu_tanh": "Gelu", "not": "Not", "isnan": "IsNaN",
}
BINARY: dict[v.BinaryFn, str] = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "mod": "Mod", "pow": "Pow", "max": "Max", "min": "Min",
    "eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual", "and": "And", "or": "Or",
}
REDUCE: dict[v.ReduceFn, str] = {"max": "ReduceMax", "sum": "ReduceSum", "mean": "ReduceMean"}


def _unary(w: Nodes, op: v.Unary) -> str:
    x = w[op.value]
    if op.fn == "softplus" and w.precision == "float64":  # ONNX Runtime has it for floats only
        tail = w.node("Exp", w.node("Neg", w.node("Abs", x)))
        return w.node("Add", w.node("Max", x, w.number(0.0)), w.node("Log", w.node("Add", tail, w.number(1.0))))
    if op.fn in ("gelu", "gelu_tanh"):
        return w.node("Gelu", x, approximate="tanh" if op.fn == "gelu_tanh" else "none")
    return w.node(UNARY[op.fn], x)


def _elu(w: Nodes, op: v.Elu) -> str:
    x = w[op.value]
    if w.precision != "float64":
        return w.node("Elu", x, alpha=op.alpha)
    low = w.node("Sub", w.node("Exp", w.node("Min", x, w.number(0.0))), w.number(1.0))  # ONNX Runtime has no other
    if op.alpha != 1.0:
        low = w.node("Mul", low, w.number(op.alpha))
    return w.node("Where", w.node("Greater", x, w.number(0.0)), x, low)


def _where(w: Nodes, op: v.Where) -> str:
    mask, yes, no = w[op.mask], w[op.yes], w[op.no]
    if op.yes.kind != "bool":
        return w.node("Where", mask, yes, no)
    return w.node("Or", w.node("And", mask, yes), w.node("And", w.node("Not", mask), no))  # ONNX Runtime has no other


def _expand(w: Nodes, op: v.Expand) -> str:
    if op.like is None:
        return w.node("Expand", w[op.value], w.whole(*op.sizes))
    lead = w.node("Shape", w[op.like], start=0, end=op.lead)
    return w.node("Expand", w[op.value], w.node("Concat", lead, w.whole(*op.sizes), axis=0))


def _pad(w: Nodes, op: v.Pad) -> str:
    fill = [] if op.fill is None else [op.fill]
    return w.node("Pad", w[op.value], w.whole(*op.low, *op.high), *(w.number(one, op.value.kind) for one in fill),
                  mode="constant")


def _slice(w: Nodes, op: v.Slice) -> str:
    end = w.whole(op.end) if isinstance(op.end, int) else w.node("Shape", w[op.end], start=2, end=3)
    return w.node("Slice", w[op.value], w.whole(op.start), end, w.whole(op.axis))


def _border(w: Nodes, op: v.Border) -> str:
    """Both sides' shapes are computed even where one has no columns: files stay as they always were."""
    lead, sides = w.node("Shape", w[op.value], start=0, end=1), list[list[str]]()
    for columns in (op.left, op.right):
        shape = w.node("Concat", lead, w.whole(columns, *op.fill.array.shape[2:]), axis=0)
        sides.append([w.node("Expand", w.constant(op.fill.array, op.fill.digest), shape)] if columns else [])
    return w.node("Concat", *sides[0], w[op.value], *sides[1], axis=1)


def _convolve(w: Nodes, op: v.Convolve) -> str:
    image, bias = w[op.image], [] if op.bias is None else [w[op.bias]]
    if w.precision != "float64":
        kernel = w.constant(op.kernel.array, op.kernel.digest)
        strides = {"strides": op.every} if op.every != (1, 1) else {}
        return w.node("Conv", image, kernel, *bias, pads=(*op.low, *op.high), **strides)
    image = w.node("Pad", image, w.whole(0, 0, *op.low, 0, 0, *op.high), mode="constant")  # ONNX Runtime has no other
    height, width = op.kernel.array.shape[2:]
    total = ""
    for dy, dx in np.ndindex(height, width):  # a window per tap
        end = w.whole(*(k + 1 - size or FAR for k, size in ((dy, height), (dx, width))))
        steps = [w.whole(*op.every)] if op.every != (1, 1) else []
        window = w.node("Slice", image, w.whole(dy, dx), end, w.whole(2, 3), *steps)
        tap = w.constant(np.ascontiguousarray(op.kernel.array[:, :, dy, dx]))
        part = w.node("Einsum", tap, window, equation="oc,bchw->bohw")
        total = w.node("Add", total, part) if total else part
    return w.node("Add", total, w.node("Unsqueeze", *bias, w.whole(1, 2))) if bias else total


def _on_grid(w: Nodes, op: v.OnGrid) -> str:
    """A pair that engines join with the product that reads it."""
    scale, zero = w.constant(np.array(op.scale, np.float32)), w.constant(np.array(0, np.int8))
    return w.node("DequantizeLinear", w.node("QuantizeLinear", w[op.value], scale, zero), scale, zero)


def _grid_constant(w: Nodes, op: v.GridConstant) -> str:
    zeros = [w.constant(np.zeros(op.scales.shape, np.int8))] if op.numbers.dtype == np.int8 else []
    return w.node("DequantizeLinear", w.constant(op.numbers), w.constant(op.scales), *zeros, axis=op.numbers.ndim - 1)


SPELLINGS: dict[type[Operation], Callable[[Nodes, Any], str | list[str]]] = {
    v.Constant: lambda w, op: w.constant(op.array, op.digest),
    v.Copy: lambda w, op: w.copy(w[op.value]),
    v.Cast: lambda w, op: w.node("Cast", w[op.value], to=w.type_of(op.kind)),
    v.Unary: _unary,
    v.Elu: _elu,
    v.LeakyRelu: lambda w, op: w.node("LeakyRelu", w[op.value], alpha=op.slope),
    v.Clip: lambda w, op: w.node("Clip", w[op.value], *(w.number(end, op.value.kind) for end in (op.low, op.high))),
    v.Binary: lambda w, op: w.node(BINARY[op.fn], w[op.a], w[op.b]),
    v.Where: _where,
    v.Reshape: lambda w, op: w.node("Reshape", w[op.value], w.whole(*op.shape)),
    v.Unsqueeze: lambda w, op: w.node("Unsqueeze", w[op.value], w.whole(*op.axes)),
    v.Squeeze: lambda w, op: w.node("Squeeze", w[op.value], w.whole(*op.axes)),
    v.Transpose: lambda w, op: w.node("Transpose", w[op.value], perm=op.order),
    v.Expand: _expand,
    v.Concat: lambda w, op: w.node("Concat", *(w[value] for value in op.values), axis=op.axis),
    v.Split: lambda w, op: w.several("Split", len(op.sizes), [w[op.value], w.whole(*op.sizes)], axis=op.axis),
    v.Slice: _slice,
    v.Pad: _pad,
    v.Border: _border,
    v.Gather: lambda w, op: w.node("Gather", w[op.value], w[op.index], axis=op.axis),
    v.GatherCells: lambda w, op: w.node("GatherND", w[op.value], w[op.index], batch_dims=1),
    v.GatherEach: lambda w, op: w.node("GatherElements", w[op.value], w[op.index], axis=op.axis),
    v.Write: lambda w, op: w.node("TensorScatter", w[op.state], w[op.update], w[op.start], axis=2, mode="linear"),
    v.Pick: lambda w, op: w.node("GatherND", w[op.value], w[op.index]),
    v.Put: lambda w, op: w.node("ScatterND", w[op.state], w[op.index], w[op.update]),
    v.Reduce: lambda w, op: w.node(REDUCE[op.fn], w[op.value], w.whole(op.axis), keepdims=int(op.keep)),
    v.ArgMax: lambda w, op: w.node("ArgMax", w[op.value], axis=op.axis, keepdims=int(op.keep)),
    v.Top: lambda w, op: w.several("TopK", 2, [w[op.value], w.whole(op.count)], axis=op.axis, largest=1, sorted=1),
    v.CumulativeSum: lambda w, op: w.node("CumSum", w[op.value], w.whole(op.axis), exclusive=1),
    v.Softmax: lambda w, op: w.node("LogSoftmax" if op.log else "Softmax", w[op.value], axis=op.axis),
    v.MatMul: lambda w, op: w.node("MatMul", w[op.a], w[op.b]),
    v.OnGrid: _on_grid,
    v.GridConstant: _grid_constant,
    v.Linear: lambda w, op: w.node("Gemm", w[op.value], w[op.weight], w[op.bias]),
    v.Convolve: _convolve,
}
