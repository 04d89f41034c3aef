"""What each node computes, in PyTorch, for any number of leading (slot and position) axes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

from pixelsnail_infer.export.fields import Node, own_share

__all__ = ["MAPS", "evaluate"]


def _elu(x: torch.Tensor, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> torch.Tensor:
    return scale * torch.where(x > 0, x, alpha * torch.expm1(torch.clamp(x * input_scale, max=0)))


def _clamp(x: torch.Tensor, low: float | None = None, high: float | None = None) -> torch.Tensor:
    return torch.clamp(x, low, high)


MAPS: dict[str, Callable[..., torch.Tensor]] = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "neg": torch.neg, "exp": torch.exp,
    "log": torch.log, "abs": torch.abs, "sqrt": torch.sqrt, "rsqrt": torch.rsqrt, "reciprocal": torch.reciprocal,
    "relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "silu": F.silu, "gelu": F.gelu,
    "softplus": F.softplus, "elu": _elu, "leaky_relu": lambda x, slope: F.leaky_relu(x, slope),
    "pow": lambda x, exponent: torch.pow(x, exponent), "clamp": _clamp, "identity": lambda x: x,
    "maximum": torch.maximum, "minimum": torch.minimum,
    "where": torch.where, "eq": torch.eq, "ne": torch.ne, "lt": torch.lt, "le": torch.le, "gt": torch.gt,
    "ge": torch.ge, "logical_not": torch.logical_not, "logical_and": torch.logical_and,
    "logical_or": torch.logical_or, "isnan": torch.isnan, "cast": lambda x, dtype: x.to(dtype),
}


def evaluate(node: Node, values: list[torch.Tensor], lead: int) -> torch.Tensor:
    """The node's value from its inputs, each `[*lead, *channels]` (or `[*lead, *channels, keys]`), `lead` leading axes.

    Covers position-wise nodes, for which `values` are read at one position; a linear node sums its taps elsewhere and
    comes here with its single tap only.
    """
    attrs = node.attrs
    if node.op == "map":
        return MAPS[attrs["fn"]](*values, **attrs.get("params", {}))
    if node.op == "linear":
        (weight,) = attrs["taps"].values()
        return F.linear(values[0], weight, attrs["bias"])
    if node.op == "lookup":
        (table,) = attrs["taps"].values()
        value = table[values[0]]
        return value if attrs["bias"] is None else value + attrs["bias"]
    if node.op == "cat":
        shape = torch.broadcast_shapes(*(v.shape[:lead] for v in values))
        return torch.cat([v.expand(*shape, *v.shape[lead:]) for v in values], dim=lead + attrs["axis"])
    if node.op == "slice":
        return values[0].narrow(lead + attrs["axis"], attrs["start"], attrs["size"])
    if node.op == "reshape":
        tail = values[0].shape[lead + len(node.inputs[0].source.channels):]
        return values[0].reshape(*values[0].shape[:lead], *node.channels, *tail)
    if node.op == "permute":
        rest = range(lead + len(attrs["order"]), values[0].ndim)
        return values[0].permute(*range(lead), *(lead + k for k in attrs["order"]), *rest)
    if node.op in ("softmax", "log_softmax"):
        return getattr(torch, node.op)(values[0], dim=lead + attrs["axis"])
    if node.op == "reduce":
        return _reduce(attrs["fn"], values[0], lead + attrs["axis"])
    if node.op == "key_reduce":
        return _reduce(attrs["fn"], values[0], -1)
    if node.op == "key_softmax":
        return torch.softmax(torch.cat(values, -1), -1).split([v.shape[-1] for v in values], -1)[own_share(node)]
    if node.op == "embedding":
        return F.embedding(values[0], attrs["weight"])
    raise ValueError(f"{node.op} is not position-wise")


def _reduce(fn: str, x: torch.Tensor, axis: int) -> torch.Tensor:
    if fn == "max":
        return torch.amax(x, dim=axis)
    if fn == "mean":
        return torch.mean(x, dim=axis)
    return torch.sum(x, dim=axis)
