"""Elementwise operations of the staged program: every name in `torch_ops.MAPS`; a test holds the two together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.emission.builder import FLOATS, GraphBuilder, kind_of
from pixelsnail_infer.export.emission.graph import Value
from pixelsnail_infer.export.emission.vocabulary import BinaryFn, UnaryFn
from pixelsnail_infer.export.fields import Node

__all__ = ["EMITTED", "emit_map"]

Emitter = Callable[[GraphBuilder, list[Value], dict[str, Any], Node], Value]


def emit_map(g: GraphBuilder, fn: str, args: list[Value], params: dict[str, Any], node: Node) -> Value:
    """Emit one elementwise operation on operands that broadcast as they stand, the floating-point ones of one kind."""
    if fn not in EMITTED:
        raise UnsupportedOpError(f"{node.where}: {fn} cannot be written to a graph.")
    return EMITTED[fn](g, _of_one_kind(g, fn, args, node), params, node)


def _as(g: GraphBuilder, want: torch.dtype, value: Value, others: list[Value]) -> Value:
    """`value` as a number of this dtype: an integer as float32, a truth value as what it is used with."""
    kind = kind_of(want)
    if kind == "float":
        kind = g.wide if value.kind == "int" else next((one.kind for one in others if one.kind in FLOATS), kind)
    return g.cast(value, kind)


def _of_one_kind(g: GraphBuilder, fn: str, args: list[Value], node: Node) -> list[Value]:
    """Graphs want operands of one kind where PyTorch promotes."""
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
    return args[:skip] + [arg if kind_of(source.dtype) == kind_of(want) else _as(g, want, arg, args)
                          for arg, source in zip(args[skip:], typed, strict=True)]


def _unary(fn: UnaryFn) -> Emitter:
    return lambda g, args, params, node: g.unary(fn, args[0])


def _binary(fn: BinaryFn) -> Emitter:
    return lambda g, args, params, node: g.binary(fn, args[0], args[1])


def _elu(g: GraphBuilder, args: list[Value], params: dict[str, Any], node: Node) -> Value:
    alpha, scale, inner = (float(params.get(k, 1.0)) for k in ("alpha", "scale", "input_scale"))
    if inner != 1.0:
        raise UnsupportedOpError(f"{node.where}: an ELU with an input scale cannot be written to a graph.")
    value = g.elu(args[0], alpha)
    return value if scale == 1.0 else g.mul(value, scale)


def _clamp(g: GraphBuilder, args: list[Value], params: dict[str, Any], node: Node) -> Value:
    x, number = args[0], int if args[0].kind == "int" else float
    if params.get("low") is not None:
        x = g.binary("max", x, number(params["low"]))
    if params.get("high") is not None:
        x = g.binary("min", x, number(params["high"]))
    return x


def _where(g: GraphBuilder, args: list[Value], params: dict[str, Any], node: Node) -> Value:
    mask = args[0] if args[0].kind == "bool" else g.cast(args[0], "bool")
    return g.where(mask, args[1], args[2])


def _cast(g: GraphBuilder, args: list[Value], params: dict[str, Any], node: Node) -> Value:
    """To another floating-point dtype nothing is done in a graph of half precision: its kinds say what is float32."""
    if g.half and args[0].kind in FLOATS and params["dtype"].is_floating_point:
        return args[0]
    return _as(g, params["dtype"], args[0], [])


UNARY: tuple[UnaryFn, ...] = ("neg", "exp", "log", "abs", "sqrt", "reciprocal", "relu", "sigmoid", "tanh", "softplus",
                              "isnan")
BINARY: tuple[BinaryFn, ...] = ("add", "sub", "mul", "div", "eq", "lt", "le", "gt", "ge")
EMITTED: dict[str, Emitter] = {
    **{fn: _unary(fn) for fn in UNARY}, **{fn: _binary(fn) for fn in BINARY},
    "maximum": _binary("max"), "minimum": _binary("min"),
    "logical_and": _binary("and"), "logical_or": _binary("or"), "logical_not": _unary("not"),
    "elu": _elu, "clamp": _clamp, "where": _where,
    "identity": lambda g, args, params, node: args[0],
    "ne": lambda g, args, params, node: g.unary("not", g.binary("eq", args[0], args[1])),
    "silu": lambda g, args, params, node: g.mul(args[0], g.unary("sigmoid", args[0])),
    "rsqrt": lambda g, args, params, node: g.unary("reciprocal", g.unary("sqrt", args[0])),
    "gelu": lambda g, args, params, node: g.unary("gelu_tanh" if params.get("approximate") == "tanh" else "gelu",
                                                  args[0]),
    "leaky_relu": lambda g, args, params, node: g.leaky_relu(args[0], float(params.get("slope", 0.01))),
    "pow": lambda g, args, params, node: g.binary("pow", args[0], float(params["exponent"])),
    "cast": _cast,
}
