"""Elementwise operations in ONNX. Every name in `torch_ops.MAPS` has its writer here; a test holds the two together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.emission.onnx_graph import GraphWriter
from pixelsnail_infer.export.fields import Node

__all__ = ["WRITERS", "emit_map"]

Writer = Callable[[GraphWriter, list[str], dict[str, Any], Node], str]


def emit_map(writer: GraphWriter, fn: str, args: list[str], params: dict[str, Any], node: Node) -> str:
    """Write one elementwise operation on operands that broadcast as they stand."""
    if fn not in WRITERS:
        raise UnsupportedOpError(f"{node.where}: {fn} cannot be written to a graph.")
    return WRITERS[fn](writer, _cast_all(writer, fn, args, node), params, node)


def _cast_all(writer: GraphWriter, fn: str, args: list[str], node: Node) -> list[str]:
    """ONNX wants operands of one type where PyTorch promotes."""
    sources = [edge.source for edge in node.inputs]
    typed = sources[1:] if fn == "where" else sources
    want = typed[0].dtype
    for source in typed[1:]:
        want = torch.promote_types(want, source.dtype)
    if fn == "cast" or len(typed) == 1:
        return args
    if fn in ("add", "sub", "mul", "div") and not want.is_floating_point and node.dtype.is_floating_point:
        want = node.dtype
    if fn.startswith("logical"):
        want = torch.bool
    skip = len(sources) - len(typed)
    return args[:skip] + [arg if _kind(source.dtype) == _kind(want) else _cast(writer, arg, want)
                          for arg, source in zip(args[skip:], typed, strict=True)]


def _kind(dtype: torch.dtype) -> str:
    return "f" if dtype.is_floating_point else "b" if dtype == torch.bool else "i"


def _cast(writer: GraphWriter, arg: str, dtype: torch.dtype) -> str:
    return writer.cast(arg, {"f": "float", "b": "bool", "i": "int64"}[_kind(dtype)])


def _plain(kind: str) -> Writer:
    return lambda w, args, params, node: w.op(kind, *args)


def _elu(w: GraphWriter, args: list[str], params: dict[str, Any], node: Node) -> str:
    alpha, scale, inner = (float(params.get(k, 1.0)) for k in ("alpha", "scale", "input_scale"))
    if inner != 1.0:
        raise UnsupportedOpError(f"{node.where}: an ELU with an input scale cannot be written to a graph.")
    value = _elu_of_doubles(w, args[0], alpha) if w.precision == "float64" else w.op("Elu", args[0], alpha=alpha)
    return value if scale == 1.0 else w.op("Mul", value, w.constant(scale))


def _elu_of_doubles(w: GraphWriter, x: str, alpha: float) -> str:
    """ONNX Runtime has no Elu for them."""
    low = w.op("Sub", w.op("Exp", w.op("Min", x, w.constant(0.0))), w.constant(1.0))
    if alpha != 1.0:
        low = w.op("Mul", low, w.constant(alpha))
    return w.op("Where", w.op("Greater", x, w.constant(0.0)), x, low)


def softplus(w: GraphWriter, x: str) -> str:
    """log(1 + e^x)."""
    if w.precision == "float32":
        return w.op("Softplus", x)
    tail = w.op("Exp", w.op("Neg", w.op("Abs", x)))  # ONNX Runtime has no Softplus for doubles
    return w.op("Add", w.op("Max", x, w.constant(0.0)), w.op("Log", w.op("Add", tail, w.constant(1.0))))


def _clamp(w: GraphWriter, args: list[str], params: dict[str, Any], node: Node) -> str:
    x = args[0]
    if params.get("low") is not None:
        x = w.op("Max", x, w.constant(float(params["low"])))
    if params.get("high") is not None:
        x = w.op("Min", x, w.constant(float(params["high"])))
    return x


def _not_equal(w: GraphWriter, args: list[str], params: dict[str, Any], node: Node) -> str:
    return w.op("Not", w.op("Equal", *args))


def _silu(w: GraphWriter, args: list[str], params: dict[str, Any], node: Node) -> str:
    return w.op("Mul", args[0], w.op("Sigmoid", args[0]))


def _rsqrt(w: GraphWriter, args: list[str], params: dict[str, Any], node: Node) -> str:
    return w.op("Reciprocal", w.op("Sqrt", args[0]))


def _gelu(w: GraphWriter, args: list[str], params: dict[str, Any], node: Node) -> str:
    return w.op("Gelu", args[0], approximate=params.get("approximate", "none"))


def _where(w: GraphWriter, args: list[str], params: dict[str, Any], node: Node) -> str:
    mask = args[0] if node.inputs[0].source.dtype == torch.bool else _cast(w, args[0], torch.bool)
    return w.where(mask, args[1], args[2], node.dtype)


WRITERS: dict[str, Writer] = {
    **{name: _plain(kind) for name, kind in {
        "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "neg": "Neg", "exp": "Exp", "log": "Log", "abs": "Abs",
        "sqrt": "Sqrt", "reciprocal": "Reciprocal", "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh",
        "maximum": "Max", "minimum": "Min", "eq": "Equal", "lt": "Less", "le": "LessOrEqual",
        "gt": "Greater", "ge": "GreaterOrEqual", "logical_not": "Not", "logical_and": "And", "logical_or": "Or",
        "isnan": "IsNaN"}.items()},
    "ne": _not_equal, "silu": _silu, "rsqrt": _rsqrt, "gelu": _gelu, "elu": _elu, "clamp": _clamp, "where": _where,
    "identity": lambda w, args, params, node: args[0],
    "softplus": lambda w, args, params, node: softplus(w, args[0]),
    "leaky_relu": lambda w, args, params, node: w.op("LeakyRelu", args[0], alpha=float(params.get("slope", 0.01))),
    "pow": lambda w, args, params, node: w.op("Pow", args[0], w.constant(float(params["exponent"]))),
    "cast": lambda w, args, params, node: _cast(w, args[0], params["dtype"]),
}
