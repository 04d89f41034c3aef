"""Normal form: turn a trace into fields, folding pads, crops and shifts into edges and layout into axes.

`lower(trace, pixels, shape)` walks the trace once, with one handler per ATen operation (`table`). Where two operands of
a product could both be the keys, the first reading is that the second one is; where a constant factor could be weights
of a layer or keys, that it is weights. A later sum over the other one's positions proves the contrary, and the walk
starts again with that product read in the next way.
"""

from __future__ import annotations

from typing import Any

import torch

from pixelsnail_infer.errors import ModelError, NotCausalError, UnsupportedOpError
from pixelsnail_infer.export.fields import Node
from pixelsnail_infer.export.lowering.axes import as_map, solid
from pixelsnail_infer.export.lowering.distribution import apply
from pixelsnail_infer.export.lowering.state import Flip, Lowering
from pixelsnail_infer.export.lowering.table import HANDLERS
from pixelsnail_infer.export.lowering.tokens import Tokens
from pixelsnail_infer.export.lowering.views import Atom, View, drop_axes, whole
from pixelsnail_infer.export.tracing.traced import BatchInt, Trace, TraceNode, Where, references

__all__ = ["lower"]


def lower(trace: Trace, pixels: str, shape: tuple[int, int]) -> Node:
    """The output node of the normal form: frame `shape`, channels `(levels,)`, and under it the whole network.

    `pixels` names the input that is being modelled. Raises `UnsupportedOpError` for what is not understood.
    """
    readings: dict[int, int] = {}
    reasons: list[tuple[bool, int, ModelError]] = []
    while True:
        state = Lowering(shape, readings)
        try:
            return _walk(trace, pixels, state)
        except (Flip, ModelError) as error:
            reason = error.error if isinstance(error, Flip) else error
            reasons.append((isinstance(reason, NotCausalError), len(state.values), reason))
            if not isinstance(error, Flip):  # a leak if any reading shows one, else what the furthest one says
                raise max(reasons, key=lambda told: told[:2])[2] from None
            readings[error.product] = readings.get(error.product, 0) + 1


def _walk(trace: Trace, pixels: str, state: Lowering) -> Node:
    for number, spec in enumerate(trace.inputs):
        state.values[number] = _input(spec.name, spec.shape, spec.dtype, spec.levels, spec.name == pixels, state.shape)
    for state.item, item in enumerate(_live(trace)):
        handler = HANDLERS.get(item.op)
        if handler is None:
            raise UnsupportedOpError(
                f"{item.where} is not understood by the exporter. Write it with supported operations "
                "(docs/exporter.md lists them), or report it with the model.")
        result = apply(state, item, handler) if state.views(item) else _folded(state, item)
        results = result if isinstance(result, (tuple, list)) else (result,)
        for index, value in zip(item.outputs, results, strict=False):
            state.values[index] = value
    return _output(state.values[trace.output.index], state)


def _folded(state: Lowering, item: TraceNode) -> Any:
    """What an operation on constants gives: on a canvas of one row, the rows above it are an empty map."""
    args, kwargs = _single_batch(state.get(item.args)), {k: _single_batch(v) for k, v in item.kwargs.items()}
    return getattr(torch.ops.aten, item.op)(*args, **kwargs)


def _single_batch(tree: Any) -> Any:
    if isinstance(tree, (list, tuple)):
        return [_single_batch(item) for item in tree]
    return tree.factor if isinstance(tree, BatchInt) else tree


def _live(trace: Trace) -> list[TraceNode]:
    """The operations that the output needs; what a forward computes only for its shape is left out."""
    needed, kept = {trace.output.index}, []
    for item in reversed(trace.nodes):
        if needed.intersection(item.outputs):
            kept.append(item)
            needed.update(references((item.args, item.kwargs)))
    return kept[::-1]


def _input(name: str, shape: tuple[int, ...], dtype: torch.dtype, levels: int | None, pixel: bool,
           canvas: tuple[int, int]) -> View:
    where = Where("", f"input {name}", "")
    spatial = (shape[-2], shape[-1]) if len(shape) >= 2 else None
    if pixel and spatial != canvas:
        raise ModelError(f"pixels of shape {shape} do not end with the canvas {canvas}.")
    channels = shape[:-2] if spatial else shape
    node = Node("input", [], spatial, tuple(channels), dtype, where, attrs={"name": name, "levels": levels},
                pixel=pixel, condition=not pixel)
    dims: list[tuple[Atom, ...]] = [(Atom("b", 1),)]
    dims += [(Atom("c", size, axis),) for axis, size in enumerate(channels)]
    if spatial:
        dims += [(Atom("y", spatial[0]),), (Atom("x", spatial[1]),)]
    return whole(node, tuple(dims))


def _output(value: Any, state: Lowering) -> Node:
    if isinstance(value, torch.Tensor):
        raise ModelError(f"no logit on the {state.shape} canvas depends on a pixel: there is no step to export, for "
                         "all pixels could be drawn at once.")
    if isinstance(value, Tokens):
        raise ModelError(f"the network's output has {value.count} tokens; give the last {value.inside} of them, one "
                         "for every pixel, as a map of logits [B, levels, H, W].")
    found = as_map(value, -2, -1) if isinstance(value, View) and len(value.dims) == 4 else None
    if found is None or found.frame != state.shape:
        raise ModelError(f"the network's output is not a map of logits over the {state.shape} canvas; "
                         "give forward= a function that returns logits [B, levels, H, W].")
    value = found
    if value.node.keys or any(a.kind not in "bcyx" for dim in value.dims for a in solid(dim)):
        raise ModelError("the network's output has axes that are neither channels nor positions.")
    where = Where("", "output", "")
    order = [a.axis for dim in value.dims for a in dim if a.kind == "c"]
    total = 1
    for axis in order:
        total *= value.node.channels[axis]
    value = drop_axes(value, order, where, (total,))
    return Node("map", [value.edge], state.shape, (total,), value.node.dtype, where, None, {"fn": "identity"},
                value.node.pixel, value.node.condition, value.node.stride)
