"""The ATen operations that the exporter understands, one handler each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from pixelsnail_infer.errors import ModelError, NotCausalError, UnsupportedOpError
from pixelsnail_infer.export.lowering import arrangement, attention, contraction, cuts
from pixelsnail_infer.export.lowering.axes import as_map, kinds_of, solid, spans_keys
from pixelsnail_infer.export.lowering.elementwise import elementwise, without_nan
from pixelsnail_infer.export.lowering.overwrite import select_scatter, slice_scatter
from pixelsnail_infer.export.lowering.pads import max_pool
from pixelsnail_infer.export.lowering.positionwise import positionwise
from pixelsnail_infer.export.lowering.state import Lowering
from pixelsnail_infer.export.lowering.strides import upsampled
from pixelsnail_infer.export.lowering.views import Atom, View, size_of
from pixelsnail_infer.export.tracing.traced import BatchInt, TraceNode

__all__ = ["HANDLERS"]

Handler = Callable[[Lowering, TraceNode], Any]


def _same(state: Lowering, item: TraceNode) -> Any:
    return state.get(item.args[0])


def _tensor(value: Any, like: torch.dtype) -> View | torch.Tensor:
    """A number among operands as a constant."""
    if isinstance(value, (View, torch.Tensor)):
        return value
    if isinstance(value, BatchInt):
        raise ModelError("the network computes with its batch size; its logits would depend on their neighbours.")
    return torch.tensor(value, dtype=like if like.is_floating_point or isinstance(value, int) else torch.float64)


def _dtype(values: list[Any]) -> torch.dtype:
    return next(v.node.dtype for v in values if isinstance(v, View))


def _map(fn: str, count: int, result: torch.dtype | None = None, **defaults: Any) -> Handler:
    """`count` operands, then parameters, by place or by name; `defaults` are PyTorch's own."""

    def handle(state: Lowering, item: TraceNode) -> View:
        values = [state.get(a) for a in item.args[:count]]
        dtype = _dtype(values)
        given = dict(zip(defaults, item.args[count:], strict=False))
        params = {**defaults, **{k: v for k, v in item.kwargs.items() if k in defaults}, **given}
        operands = [_tensor(v, dtype) for v in values]
        alpha = item.kwargs.get("alpha", 1)
        if alpha != 1:
            operands[1] = elementwise("mul", [operands[1], torch.tensor(alpha, dtype=dtype)], item.where) \
                if isinstance(operands[1], View) else operands[1] * alpha
        return elementwise(fn, operands, item.where, params=params, dtype=result)

    return handle


def _mul(state: Lowering, item: TraceNode) -> View:
    a, b = (state.get(v) for v in item.args[:2])
    scores = attention.outer(state, a, b, item.where) if isinstance(a, View) and isinstance(b, View) else None
    return scores if scores is not None else _map("mul", 2)(state, item)


def _clamp(low: float | None, high: float | None) -> Handler:
    """Between `min` and `max`, by place or by name."""

    def handle(state: Lowering, item: TraceNode) -> View:
        given = {**dict(zip(("min", "max"), item.args[1:], strict=False)), **item.kwargs}
        params = {"low": given.get("min", low), "high": given.get("max", high)}
        return elementwise("clamp", [state.get(item.args[0])], item.where, params=params)

    return handle


def _rsub(state: Lowering, item: TraceNode) -> View:
    x, y = (state.get(a) for a in item.args[:2])
    return elementwise("sub", [_tensor(y, _dtype([x])), x], item.where)


def _cast(state: Lowering, item: TraceNode) -> View:
    view = state.get(item.args[0])
    dtype = item.kwargs.get("dtype")
    if dtype is None or dtype == view.node.dtype or (dtype.is_floating_point and view.node.dtype.is_floating_point):
        return view
    return elementwise("cast", [view], item.where, params={"dtype": dtype}, dtype=dtype)


def _masked_fill(state: Lowering, item: TraceNode) -> View:
    x, mask, value = (state.get(a) for a in item.args[:3])
    dtype = x.node.dtype if isinstance(x, View) else x.dtype
    return elementwise("where", [mask, _tensor(value, dtype), x], item.where, dtype=dtype)


def _where(state: Lowering, item: TraceNode) -> View:
    mask, x, y = (state.get(a) for a in item.args[:3])
    dtype = next((v.node.dtype if isinstance(v, View) else v.dtype for v in (x, y)
                  if isinstance(v, (View, torch.Tensor))), torch.float64)
    return elementwise("where", [mask, _tensor(x, dtype), _tensor(y, dtype)], item.where, dtype=dtype)


def _glu(state: Lowering, item: TraceNode) -> View:
    view = state.get(item.args[0])
    axis = (item.args[1] if len(item.args) > 1 else -1) % len(view.dims)
    half = size_of(view.dims[axis]) // 2
    a, b = (cuts.narrow(view, axis, start, half, item.where) for start in (0, half))
    if not isinstance(a, View) or not isinstance(b, View):
        raise UnsupportedOpError(f"{item.where} works over an axis that is not channels.")
    return elementwise("mul", [a, elementwise("sigmoid", [b], item.where)], item.where)


def _batch_norm(state: Lowering, item: TraceNode) -> list[Any]:
    x, weight, bias, mean, variance = (state.get(a) for a in item.args[:5])
    training = item.args[5] if item.op == "native_batch_norm" else False
    if training or mean is None:
        raise UnsupportedOpError(f"{item.where} uses the statistics of the batch; put the layer in eval mode, with "
                                 "running statistics.")
    scale = torch.rsqrt(variance + item.args[-1]) * (weight if weight is not None else 1)
    shift = (bias if bias is not None else 0) - mean * scale
    shape = (1, -1, *(1 for _ in x.dims[2:]))
    y = elementwise("mul", [x, scale.reshape(shape)], item.where)
    return [elementwise("add", [y, shift.reshape(shape)], item.where), None, None]


def _layer_norm(state: Lowering, item: TraceNode) -> list[Any]:
    x, shape, weight, bias, eps = (state.get(a) for a in item.args[:5])
    axes = list(range(len(x.dims) - len(shape), len(x.dims)))
    for axis in axes:
        _refuse_positions(x, axis, item)

    def mean(value: View) -> View:
        for axis in axes:
            value = _reduce_axis("mean", value, axis, True, item)
        return value

    centred = elementwise("sub", [x, mean(x)], item.where)
    variance = mean(elementwise("mul", [centred, centred], item.where))
    shifted = elementwise("add", [variance, torch.tensor(eps, dtype=x.node.dtype)], item.where)
    y = elementwise("mul", [centred, elementwise("rsqrt", [shifted], item.where)], item.where)
    for fn, part in (("mul", weight), ("add", bias)):
        y = elementwise(fn, [y, part], item.where) if part is not None else y
    return [y, None, None]


def _over_the_canvas(state: Lowering, item: TraceNode) -> View:
    raise NotCausalError(f"{item.where} works over all positions of the canvas, later pixels included.")


def _nan_to_num(state: Lowering, item: TraceNode) -> View:
    """NaN becomes 0; infinities stay, since no trained network gives any."""
    if any(value is not None for value in (*item.args[1:], *item.kwargs.values())):
        raise UnsupportedOpError(f"{item.where} with numbers of its own is not understood; torch.where is.")
    return without_nan(state.get(item.args[0]), item.where)


def _softmax(state: Lowering, item: TraceNode) -> View:
    view, axis = state.get(item.args[0]), item.args[1] % len(state.get(item.args[0]).dims)
    kinds = kinds_of(view.dims[axis])
    if spans_keys(view, axis):
        weights = positionwise("key_softmax", [view], view.node.channels, view.dims, item.where, keys=view.node.keys)
        return without_nan(weights, item.where) if "safe" in item.op else weights
    _refuse_positions(view, axis, item)
    if len(kinds) > 1:
        view = arrangement.joined(view, axis, item.where)
    log = "log" in item.op
    if not kinds:  # over a single number: 1, and the logarithm 0
        none = elementwise("sub", [view, view], item.where)
        return none if log else elementwise("exp", [none], item.where)
    return positionwise("log_softmax" if log else "softmax", [view], view.node.channels, view.dims, item.where,
                        attrs={"axis": next(a.axis for a in view.dims[axis] if a.size > 1)}, keys=view.node.keys)


def _refuse_positions(view: View, axis: int, item: TraceNode) -> None:
    kinds = set(kinds_of(view.dims[axis]))
    if kinds & {"y", "x"}:
        raise attention.flip(view.node, attention.beyond(view, f"{item.where} works"))
    if kinds - {"c"}:
        raise UnsupportedOpError(f"{item.where} works over an axis that is not channels.")


def _reduce(fn: str) -> Handler:
    def handle(state: Lowering, item: TraceNode) -> Any:
        view = state.get(item.args[0])
        axes = item.args[1] if len(item.args) > 1 and item.args[1] is not None else list(range(len(view.dims)))
        axes = sorted({a % len(view.dims) for a in (axes if isinstance(axes, (list, tuple)) else [axes])})
        keep = bool(item.args[2]) if len(item.args) > 2 else bool(item.kwargs.get("keepdim", False))
        for axis in reversed(axes):
            view = _reduce_axis(fn, view, axis, keep, item)
        return [view, None] if len(item.outputs) > 1 else view

    return handle


def _reduce_axis(fn: str, view: View, axis: int, keep: bool, item: TraceNode) -> View:
    kinds = set(kinds_of(view.dims[axis]))
    dims = (*view.dims[:axis], *(((),) if keep else ()), *view.dims[axis + 1:])
    if kinds and kinds <= {"Y", "X"}:
        return positionwise("key_reduce", [view], view.node.channels, dims, item.where, attrs={"fn": fn})
    if not kinds:
        return replace(view, dims=dims)
    _refuse_positions(view, axis, item)
    for atom in sorted(solid(view.dims[axis]), key=lambda a: -a.axis):
        channels = tuple(s for k, s in enumerate(view.node.channels) if k != atom.axis)
        dims = tuple(tuple(a._replace(axis=a.axis - (a.axis > atom.axis)) if a.kind == "c" else a
                           for a in d if a != atom) for d in view.dims)
        view = positionwise("reduce", [view], channels, dims, item.where, attrs={"fn": fn, "axis": atom.axis},
                            keys=view.node.keys)
    dims = (*view.dims[:axis], *(((),) if keep else ()), *view.dims[axis + 1:])
    return replace(view, dims=dims)


def _embedding(state: Lowering, item: TraceNode) -> View:
    weight, view = state.get(item.args[0]), state.get(item.args[1])
    if isinstance(weight, View) or math.prod(view.node.channels) != 1:
        raise UnsupportedOpError(f"{item.where}: only plain embeddings of codes or labels are understood.")
    width = weight.shape[1]
    return positionwise("embedding", [view], (width,), (*view.dims, (Atom("c", width, 0),)), item.where,
                        attrs={"weight": weight}, dtype=weight.dtype)


def _upsample(state: Lowering, item: TraceNode) -> View:
    view = state.get(item.args[0])
    found = as_map(view, -2, -1)
    if found is None or found.frame is None:
        raise UnsupportedOpError(f"{item.where}: only maps [B, C, rows, columns] can be upsampled.")
    scales = [a for a in item.args[1:] if a is not None]
    h, w = found.frame
    if isinstance(scales[0][0], int) and len(scales) == 1:
        sy, sx = scales[0][0] / h, scales[0][1] / w
    else:
        sy, sx = (float(s) for s in (scales[-1] if isinstance(scales[-1], (list, tuple)) else scales[-2:]))
    if sy != int(sy) or sx != int(sx):
        raise UnsupportedOpError(f"{item.where}: upsampling by ({sy}, {sx}); only whole factors are understood.")
    return upsampled(found, (-2, -1), (int(sy), int(sx)), item.where)


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("clone", "alias", "detach", "contiguous", "lift_fresh", "lift_fresh_copy"), _same),
    **dict.fromkeys(("view", "_unsafe_view", "reshape"), arrangement.reshape),
    "permute": arrangement.permute, "transpose": arrangement.transpose, "t": arrangement.transpose,
    "unsqueeze": arrangement.unsqueeze, "squeeze": arrangement.squeeze, "expand": arrangement.expand,
    "repeat": arrangement.repeat,
    "constant_pad_nd": arrangement.pad, "slice": cuts.slice_, "select": cuts.select,
    "split": cuts.split, "split_with_sizes": cuts.split, "chunk": cuts.chunk,
    "unbind": cuts.unbind, "cat": arrangement.concatenate, "stack": arrangement.stack,
    "slice_scatter": slice_scatter, "select_scatter": select_scatter,
    "convolution": contraction.convolution, "mm": contraction.mm, "addmm": contraction.addmm,
    "bmm": contraction.bmm, "baddbmm": contraction.baddbmm, "_to_copy": _cast,
    **{fn: _map(fn, 2) for fn in ("add", "sub", "div", "maximum", "minimum")}, "rsub": _rsub, "mul": _mul,
    **{fn: _map(fn, 2, torch.bool) for fn in ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or")},
    "bitwise_and": _map("logical_and", 2, torch.bool), "bitwise_or": _map("logical_or", 2, torch.bool),
    **dict.fromkeys(("logical_not", "bitwise_not"), _map("logical_not", 1, torch.bool)),
    "isnan": _map("isnan", 1, torch.bool),
    **{fn: _map(fn, 1) for fn in ("neg", "exp", "log", "abs", "sqrt", "rsqrt", "reciprocal", "relu", "sigmoid",
                                  "tanh", "silu", "softplus")},
    "gelu": _map("gelu", 1, approximate="none"), "elu": _map("elu", 1, alpha=1.0, scale=1.0, input_scale=1.0),
    "leaky_relu": _map("leaky_relu", 1, slope=0.01), "pow": _map("pow", 1, exponent=1),
    "clamp": _clamp(None, None), "clamp_min": _clamp(None, None), "hardtanh": _clamp(-1.0, 1.0),
    "masked_fill": _masked_fill, "where": _where, "glu": _glu, "nan_to_num": _nan_to_num,
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit_no_training"), _batch_norm),
    **dict.fromkeys(("_softmax", "_log_softmax", "_safe_softmax"), _softmax),
    "sum": _reduce("sum"), "mean": _reduce("mean"), "amax": _reduce("max"), "max": _reduce("max"),
    "native_layer_norm": _layer_norm, "native_group_norm": _over_the_canvas,
    "max_pool2d_with_indices": max_pool, "embedding": _embedding, "upsample_nearest2d": _upsample,
}
