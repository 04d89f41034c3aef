"""Windows on positions: pads, crops and blocks of rows and columns move or widen what a view shows."""

from __future__ import annotations

from dataclasses import replace

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.fields import Node
from pixelsnail_infer.export.lowering.axes import as_map, with_axes
from pixelsnail_infer.export.lowering.state import Lowering
from pixelsnail_infer.export.lowering.views import View
from pixelsnail_infer.export.tracing.traced import TraceNode, Where

__all__ = ["max_pool", "pad_window", "widened"]


def pad_window(view: View, axes: tuple[int | None, int | None], low: tuple[int, int], high: tuple[int, int],
               border: torch.Tensor, where: Where) -> View:
    """The view widened by `low` and `high` (negative: cropped); what is new shows `border`. `axes` are the dimensions
    of its rows and columns, None for one that does not change."""
    if view.frame is None or view.node.frame is None:
        raise UnsupportedOpError(f"{where} pads a value that has no rows and columns.")
    if view.pool is not None:
        raise UnsupportedOpError(f"{where} pads or crops pooled values, which is not understood.")
    h, w = view.node.frame
    (fh, fw), dy, dx = view.frame, view.dy, view.dx
    hides = (low[0] > 0 and dy > 0) or (low[1] > 0 and dx > 0) or (high[0] > 0 and dy + fh < h) or \
        (high[1] > 0 and dx + fw < w)
    differs = view.outside and (view.border is None or not torch.equal(
        view.border.expand(view.node.channels), border.expand(view.node.channels)))
    widened = max(*low, *high) > 0
    if widened and (hides or differs):
        node = Node("map", [view.edge], view.frame, view.node.channels, view.node.dtype, where, None,
                    {"fn": "identity"}, view.node.pixel, view.node.condition, view.node.stride)
        view = View(node, view.dims, view.frame)
        (fh, fw), dy, dx = view.frame, 0, 0  # type: ignore[misc]
    frame = (fh + low[0] + high[0], fw + low[1] + high[1])
    if min(frame) < 1:
        raise UnsupportedOpError(f"{where} crops a map to nothing.")
    return replace(view, dims=with_axes(view.dims, axes, frame), frame=frame, dy=dy - low[0], dx=dx - low[1],
                   border=border if widened else view.border)


def widened(view: View, axis: int, place: int, amounts: tuple[int, int], border: torch.Tensor, where: Where) -> View:
    """The view with `amounts` of rows (place 0) or columns (1), dimension `axis`, added before and after."""
    low, high = amounts
    if place == 0:
        return pad_window(view, (axis, None), (low, 0), (high, 0), border, where)
    return pad_window(view, (None, axis), (0, low), (0, high), border, where)


def max_pool(state: Lowering, item: TraceNode) -> list[View | None]:
    """Maxima of blocks of positions: only keys and values may be pooled, so the blocks are noted on the view."""
    given, kernel = state.get(item.args[0]), item.args[1]
    stride = item.args[2] if len(item.args) > 2 and item.args[2] else kernel
    (py, px), rest = (tuple(kernel) * 2)[:2], item.args[3:]
    plain = tuple(kernel) == tuple(stride) and not any(v not in (0, 1, False, [0, 0], [1, 1]) for v in rest)
    view = as_map(given, -2, -1)
    if not plain or view is None or view.frame is None or view.frame[0] % py or view.frame[1] % px or view.pool:
        raise UnsupportedOpError(f"{item.where}: only blocks that tile the map, without padding or overlap, are "
                                 "understood.")
    if not view.plain:
        view = View(Node("map", [view.edge], view.frame, view.node.channels, view.node.dtype, item.where, None,
                         {"fn": "identity"}, view.node.pixel, view.node.condition, view.node.stride), view.dims,
                    view.frame)
    assert view.frame is not None
    frame = (view.frame[0] // py, view.frame[1] // px)
    return [replace(view, dims=with_axes(view.dims, (-2, -1), frame), frame=frame, pool=(py, px)), None]
