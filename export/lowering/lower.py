"""Normal form: turn a trace into fields, folding pads, crops and shifts into edges and layout into axes.

`lower(trace, pixels, shape)` walks the trace once, with one handler per ATen op (`elementwise`, `arrangement`,
`contraction`). Where two operands of a product could both be the keys, the first reading is that the second one is;
where a constant factor could be a layer's weights or keys, that it is weights. A later sum over the other one's
positions proves the contrary, and the walk starts again with that product read in the next way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from pixelsnail_infer.errors import ModelError, NotCausalError, UnsupportedOpError
from pixelsnail_infer.export.evaluation.torch_ops import evaluate
from pixelsnail_infer.export.fields import Edge, Node
from pixelsnail_infer.export.lowering.axes import as_map, largest, solid
from pixelsnail_infer.export.lowering.views import Atom, View, drop_axes, whole
from pixelsnail_infer.export.tracing.trace import BatchInt, Ref, Trace, TraceNode, Where

__all__ = ["Flip", "Lowering", "lower", "positionwise", "repeated"]


class Flip(Exception):
    """A product must be read in another way: its keys are its first operand, or its constant factor has positions.
    `error` is what is wrong with the reading at hand, if no other one gets further."""

    def __init__(self, product: int, error: ModelError) -> None:
        super().__init__(str(error))
        self.product, self.error = product, error


@dataclass(slots=True)
class Lowering:
    """State of one walk: the traced values so far, the canvas, and how often each product's reading was changed."""

    shape: tuple[int, int]
    readings: dict[int, int]
    values: dict[int, Any] = field(default_factory=dict)
    item: int = 0

    def product(self, readings: int) -> tuple[int, dict[str, int]]:
        """How to read the product at hand, which has so many `readings`, and the attribute that lets it be changed."""
        reading = self.readings.get(self.item, 0)
        return reading, {"product": self.item} if reading < readings - 1 else {}

    def get(self, tree: Any) -> Any:
        """Arguments with references replaced by views."""
        if isinstance(tree, Ref):
            return self.values[tree.index]
        if isinstance(tree, (list, tuple)):
            return [self.get(item) for item in tree]
        return tree

    def views(self, item: TraceNode) -> bool:
        """Whether any argument is a view; otherwise all are constants."""
        return any(isinstance(self.values[k], View) for k in _references((item.args, item.kwargs)))


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
    from pixelsnail_infer.export.lowering.table import HANDLERS

    for number, spec in enumerate(trace.inputs):
        state.values[number] = _input(spec.name, spec.shape, spec.dtype, spec.levels, spec.name == pixels, state.shape)
    for state.item, item in enumerate(_live(trace)):
        handler: Callable[[Lowering, TraceNode], Any] | None = HANDLERS.get(item.op)
        if handler is None:
            raise UnsupportedOpError(
                f"{item.where} is not understood by the exporter. Write it with supported operations "
                "(docs/exporter.md lists them), or report it with the model.")
        result = handler(state, item) if state.views(item) else _folded(state, item)
        results = result if len(item.outputs) > 1 and isinstance(result, (tuple, list)) else (result,)
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
            needed.update(_references((item.args, item.kwargs)))
    return kept[::-1]


def _references(tree: Any) -> Iterator[int]:
    if isinstance(tree, Ref):
        yield tree.index
    elif isinstance(tree, (list, tuple)):
        for item in tree:
            yield from _references(item)
    elif isinstance(tree, dict):
        yield from _references(tuple(tree.values()))


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
                value.node.pixel, value.node.condition)


def positionwise(op: str, views: list[View], channels: tuple[int, ...], dims: tuple[Any, ...], where: Where, *,
                 attrs: dict[str, Any] | None = None, dtype: torch.dtype | None = None,
                 keys: tuple[int, int] | None = None) -> View:
    """A node that reads every operand at one position. A shift that all operands share moves behind the node,
    its border with it, so that pads before an activation and after it come to the same."""
    attrs = attrs or {}
    frame = largest([v.frame for v in views])
    views = [repeated(v, frame, where) for v in views]
    placed = [v for v in views if v.frame is not None]
    dtype = dtype or views[0].node.dtype
    pixel, condition = any(v.node.pixel for v in views), any(v.node.condition for v in views)
    node = Node(op, [], frame, channels, dtype, where, keys, attrs, pixel, condition)
    if not placed or all(v.plain for v in placed) or not _shared(views, placed):
        node.inputs = [v.edge for v in views]
        return View(node, dims, frame)
    first = placed[0]
    node.frame = first.node.frame
    node.inputs = [Edge(v.node) for v in views]
    border = None
    if first.outside:
        border = _border(node, views)
    return View(node, dims, frame, first.dy, first.dx, border)


def repeated(view: View, frame: tuple[int, int] | None, where: Where) -> View:
    """A map made of conditions that has one row or one column, repeated over `frame`."""
    if view.frame is None or frame is None or view.frame == frame:
        return view
    node, edge, (height, width) = view.node, view.edge, view.frame  # an edge is no pooled one
    if node.pixel or node.op == "const" or height not in (1, frame[0]) or width not in (1, frame[1]):
        raise UnsupportedOpError(f"{where}: maps of different sizes {view.frame} and {frame} meet.")
    if not view.plain:
        node = Node("map", [edge], view.frame, node.channels, node.dtype, where, None, {"fn": "identity"}, False,
                    node.condition)
    factors = frame[0] // height, frame[1] // width
    return View(Node("upsample", [Edge(node)], frame, node.channels, node.dtype, where, None, {"factors": factors},
                     False, node.condition), view.dims, frame)


def _shared(views: list[View], placed: list[View]) -> bool:
    first = placed[0]
    same = all((v.dy, v.dx, v.node.frame) == (first.dy, first.dx, first.node.frame) for v in placed)
    movable = all(v.node.op != "const" for v in placed) and all(v.border is not None or not v.outside for v in placed)
    fixed = all(v.node.op == "const" for v in views if v.frame is None)
    special = any(v.pool for v in placed) or any(v.node.keys for v in views)
    return same and movable and not special and (fixed or not first.outside)


def _border(node: Node, views: list[View]) -> torch.Tensor:
    """What the node yields where all its positional operands are outside."""
    values = []
    for view in views:
        if view.frame is None:
            values.append(view.node.attrs["value"])
        else:
            border = view.border if view.border is not None else torch.zeros((), dtype=view.node.dtype)
            values.append(border.to(view.node.dtype).expand(view.node.channels))
    return evaluate(node, values, 0)
