"""Nodes that read every operand at one position: a shift that all share moves behind them, its border with it."""

from __future__ import annotations

from typing import Any

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.evaluation.torch_ops import evaluate
from pixelsnail_infer.export.fields import Edge, Node
from pixelsnail_infer.export.lowering.axes import largest
from pixelsnail_infer.export.lowering.strides import common_stride, regridded
from pixelsnail_infer.export.lowering.views import View
from pixelsnail_infer.export.tracing.traced import Where

__all__ = ["positionwise", "repeated"]


def positionwise(op: str, views: list[View], channels: tuple[int, ...], dims: tuple[Any, ...], where: Where, *,
                 attrs: dict[str, Any] | None = None, dtype: torch.dtype | None = None,
                 keys: tuple[int, int] | None = None) -> View:
    """A node that reads every operand at one position. A shift that all operands share moves behind the node,
    its border with it, so that pads before an activation and after it come to the same."""
    attrs = attrs or {}
    frame = largest([v.frame for v in views])
    stride = common_stride(views, where)
    views = [regridded(repeated(v, frame, where), stride) for v in views]
    placed = [v for v in views if v.frame is not None]
    dtype = dtype or views[0].node.dtype
    pixel, condition = any(v.node.pixel for v in views), any(v.node.condition for v in views)
    node = Node(op, [], frame, channels, dtype, where, keys, attrs, pixel, condition, stride)
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
                    node.condition, node.stride)
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
