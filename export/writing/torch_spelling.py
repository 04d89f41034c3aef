"""How PyTorch spells each operation of the vocabulary: calls of ATen functions in an fx graph.

A write changes the state itself and gives it back. What each of these calls becomes in an archive must stand in the
runtime's `archive_code.OPERATORS`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from pixelsnail_infer.export.emission import vocabulary as v
from pixelsnail_infer.export.emission.graph import Graph, Operation, Value
from pixelsnail_infer.export.writing.torch_cells import (
    gather,
    gather_cells,
    pick,
    places,
    put,
    spread,
    sums_before,
    write,
)
from pixelsnail_infer.export.writing.torch_products import layer_products, linear, matmul, product, products
from pixelsnail_infer.export.writing.torch_stacks import LayerProducts, Products

__all__ = ["BINARY", "DTYPES", "OWN", "REDUCE", "SPELLINGS", "UNARY", "Calls"]

nn: Any = torch._C._nn  # the functions behind torch.nn.functional, without what that does around them

DTYPES = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16,
          "wide": torch.float32, "int": torch.int64, "bool": torch.bool}
UNARY: dict[v.UnaryFn, Callable[..., Any]] = {
    "neg": torch.neg, "abs": torch.abs, "exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt,
    "reciprocal": torch.reciprocal, "round": torch.round, "relu": torch.relu, "sigmoid": torch.sigmoid,
    "tanh": torch.tanh, "softplus": nn.softplus, "gelu": nn.gelu, "gelu_tanh": nn.gelu, "not": torch.logical_not,
    "isnan": torch.isnan,
}
BINARY: dict[v.BinaryFn, Callable[..., Any]] = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "mod": torch.remainder, "pow": torch.pow,
    "max": torch.maximum, "min": torch.minimum, "eq": torch.eq, "lt": torch.lt, "le": torch.le, "gt": torch.gt,
    "ge": torch.ge, "and": torch.logical_and, "or": torch.logical_or,
}
REDUCE: dict[v.ReduceFn, Callable[..., Any]] = {"max": torch.amax, "sum": torch.sum, "mean": torch.mean}
PIECES = 8  # of a weight: enough for as many threads
STRAIGHT = 40.0  # from here on softplus is x to the last bit of a double, and e^x far from overflow


class Calls:
    """The fx graph of one part while it is written. `w[value]` is the node of a value."""

    def __init__(self, graph: Graph, body: fx.Graph) -> None:
        self.precision = graph.precision
        self.body = body
        self.nodes: dict[Value, fx.Node] = {}
        self.weights = {step.results[0]: step.operation for step in graph.steps
                        if isinstance(step.operation, v.Constant)}
        self.constants: dict[str, NDArray[Any]] = {}
        self.shapes = {entry.value: entry.shape for entry in graph.inputs}
        self.places: dict[tuple[Any, ...], fx.Node] = {}
        self.sizes: dict[tuple[fx.Node, int], fx.Node] = {}
        self.names: dict[str, str] = {}  # by digest

    def __getitem__(self, value: Value) -> fx.Node:
        if value not in self.nodes and value in self.weights:  # spelled where it is first used, if as it stands
            self.nodes[value] = SPELLINGS[v.Constant](self, self.weights[value])
        return self.nodes[value]

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """A function of nodes and plain numbers."""
        return self.body.call_function(function, args, kwargs)

    def method(self, name: str, *args: Any) -> fx.Node:
        """A method of the first argument."""
        return self.body.call_method(name, args)

    def size(self, node: fx.Node, axis: int) -> fx.Node:
        """The size of an axis when the graph runs."""
        if (node, axis) not in self.sizes:
            self.sizes[node, axis] = self.method("size", node, axis)
        return self.sizes[node, axis]

    def constant(self, array: NDArray[Any], digest: str) -> fx.Node:
        """A buffer of the module; equal ones are one."""
        if digest not in self.names:
            name = f"c{len(self.constants)}"
            self.constants[name] = array
            self.names[digest] = name
        return self.body.get_attr(self.names[digest])


def _div(w: Calls, op: v.Binary) -> fx.Node:
    return w.call(torch.div, w[op.a], w[op.b], rounding_mode="floor" if op.a.kind == "int" else None)


def _binary(w: Calls, op: v.Binary) -> fx.Node:
    return _div(w, op) if op.fn == "div" else w.call(BINARY[op.fn], w[op.a], w[op.b])


def _unary(w: Calls, op: v.Unary) -> fx.Node:
    extra = {"approximate": "tanh"} if op.fn == "gelu_tanh" else {"threshold": STRAIGHT} if op.fn == "softplus" else {}
    return w.call(UNARY[op.fn], w[op.value], **extra)


def _reshape(w: Calls, op: v.Reshape) -> fx.Node:
    x = w[op.value]
    return w.method("reshape", x, *(size or w.size(x, axis) for axis, size in enumerate(op.shape)))


def _chain(name: str, backwards: bool) -> Callable[[Calls, Any], fx.Node]:
    def spell(w: Calls, op: Any) -> fx.Node:
        node = w[op.value]
        for axis in sorted(op.axes, reverse=backwards):
            node = w.method(name, node, axis)
        return node

    return spell


def _expand(w: Calls, op: v.Expand) -> fx.Node:
    lead = [] if op.like is None else [w.size(w[op.like], axis) for axis in range(op.lead)]
    return w.call(spread if 1 in op.sizes else torch.broadcast_to, w[op.value], [*lead, *op.sizes])


def _split(w: Calls, op: v.Split) -> list[fx.Node]:
    pieces = w.call(torch.split_with_sizes, w[op.value], list(op.sizes), op.axis)
    return [w.call(operator.getitem, pieces, place) for place in range(len(op.sizes))]


def _pad(w: Calls, op: v.Pad) -> fx.Node:
    pads = [count for low, high in zip(op.low[::-1], op.high[::-1], strict=True) for count in (low, high)]
    return w.call(torch.constant_pad_nd, w[op.value], pads, op.fill or 0)


def _slice(w: Calls, op: v.Slice) -> fx.Node:
    if not isinstance(op.end, int):
        assert op.start == 0
        return w.call(torch.narrow, w[op.value], op.axis, 0, w.size(w[op.end], 2))
    return w.call(torch.narrow, w[op.value], op.axis, op.start, op.end - op.start)


def _border(w: Calls, op: v.Border) -> fx.Node:
    x, fill = w[op.value], w.constant(op.fill.array, op.fill.digest)
    sizes = list(op.fill.array.shape[2:])

    def side(columns: int) -> list[fx.Node]:
        return [w.method("expand", fill, w.size(x, 0), columns, *sizes)] if columns else []

    return w.call(torch.cat, [*side(op.left), x, *side(op.right)], 1)


def _top(w: Calls, op: v.Top) -> list[fx.Node]:
    """A stable sort: of equal numbers the first comes first, which `topk` does not promise."""
    found = w.call(torch.sort, w[op.value], stable=True, dim=op.axis, descending=True)
    parts = [w.call(operator.getitem, found, place) for place in range(2)]
    return [w.call(torch.narrow, part, op.axis, 0, op.count) for part in parts]


def _convolve(w: Calls, op: v.Convolve) -> fx.Node:
    image = w[op.image]
    if op.low != op.high:
        image = w.call(torch.constant_pad_nd, image, [op.low[1], op.high[1], op.low[0], op.high[0]], 0)
    padding = list(op.low) if op.low == op.high else [0, 0]
    bias = None if op.bias is None else w[op.bias]
    return w.call(torch.conv2d, image, w.constant(op.kernel.array, op.kernel.digest), bias, list(op.every), padding)


def _matmul(w: Calls, op: v.MatMul) -> fx.Node:
    weight = w.weights.get(op.b)
    if weight is None or weight.array.ndim != 2:
        return w.call(matmul, w[op.a], w[op.b])
    return w.call(product, w[op.a], *_transposed(w, weight))


def _linear(w: Calls, op: v.Linear) -> fx.Node:
    if op.weight not in w.weights:  # on a grid
        return w.call(torch.addmm, w[op.bias], w[op.value], w[op.weight])
    weight, pieces = _transposed(w, w.weights[op.weight])
    return w.call(linear, w[op.value], weight, w[op.bias], pieces)


def _transposed(w: Calls, weight: v.Constant) -> tuple[fx.Node, int]:
    """`[out, in]`, and into how many equal pieces its rows go."""
    array = np.ascontiguousarray(weight.array.T)
    return w.constant(array, f"{weight.digest} transposed"), math.gcd(len(array), PIECES)


def _products(w: Calls, op: Products) -> fx.Node:
    return w.call(products, [w[value] for value in op.values], _stack(w, op.weights))


def _stack(w: Calls, weights: Sequence[v.Constant]) -> fx.Node:
    """`[M, out, in]` of M `[in, out]`."""
    array = np.stack([weight.array.T for weight in weights])
    return w.constant(array, " ".join([weight.digest for weight in weights]) + " stacked")


def _write(w: Calls, op: v.Write) -> fx.Node:
    """States of one shape that are written at one start have their places worked out once."""
    key = op.start, *w.shapes[op.state][1:3]
    if key not in w.places:
        w.places[key] = w.call(places, w[op.state], w[op.start])
    return w.call(write, w[op.state], w[op.update], w.places[key])


def _softmax(w: Calls, op: v.Softmax) -> fx.Node:
    return w.call(torch.log_softmax if op.log else torch.softmax, w[op.value], op.axis)


SPELLINGS: dict[type[Operation], Callable[[Calls, Any], Any]] = {
    v.Constant: lambda w, op: w.constant(op.array, op.digest),
    v.Copy: lambda w, op: w.method("clone", w[op.value]),
    v.Cast: lambda w, op: w.method("to", w[op.value], DTYPES[w.precision if op.kind == "float" else op.kind]),
    v.Unary: _unary,
    v.Elu: lambda w, op: w.call(nn.elu, w[op.value], op.alpha),
    v.LeakyRelu: lambda w, op: w.call(nn.leaky_relu, w[op.value], op.slope),
    v.Clip: lambda w, op: w.call(torch.clamp, w[op.value], op.low, op.high),
    v.Binary: _binary,
    v.Where: lambda w, op: w.call(torch.where, w[op.mask], w[op.yes], w[op.no]),
    v.Reshape: _reshape,
    v.Unsqueeze: _chain("unsqueeze", False),
    v.Squeeze: _chain("squeeze", True),
    v.Transpose: lambda w, op: w.method("permute", w[op.value], list(op.order)),
    v.Expand: _expand,
    v.Concat: lambda w, op: w.call(torch.cat, [w[value] for value in op.values], op.axis),
    v.Split: _split,
    v.Slice: _slice,
    v.Pad: _pad,
    v.Border: _border,
    v.Gather: lambda w, op: w.call(gather, w[op.value], w[op.index], op.axis),
    v.GatherCells: lambda w, op: w.call(gather_cells, w[op.value], w[op.index]),
    v.GatherEach: lambda w, op: w.call(torch.gather, w[op.value], op.axis, w[op.index]),
    v.Write: _write,
    v.Pick: lambda w, op: w.call(pick, w[op.value], w[op.index]),
    v.Put: lambda w, op: w.call(put, w[op.state], w[op.update], w[op.index]),
    v.Reduce: lambda w, op: w.call(REDUCE[op.fn], w[op.value], [op.axis], op.keep),
    v.ArgMax: lambda w, op: w.call(torch.argmax, w[op.value], op.axis, op.keep),
    v.Top: _top,
    v.CumulativeSum: lambda w, op: w.call(sums_before, w[op.value], op.axis),
    v.Softmax: _softmax,
    v.OnGrid: lambda w, op: w.call(torch.fake_quantize_per_tensor_affine, w[op.value], op.scale, 0, -128, 127),
    v.GridConstant: lambda w, op: w.constant((op.numbers * op.scales).astype(np.float32), op.digest),
    v.MatMul: _matmul,
    v.Linear: _linear,
    v.Convolve: _convolve,
}
"""Of the vocabulary: a node, or one for each result."""
OWN: dict[type[Operation], Callable[[Calls, Any], Any]] = {
    Products: _products,
    LayerProducts: lambda w, op: w.call(layer_products, w[op.value], _stack(w, op.weights)),
}
"""Of what only this writer has."""
