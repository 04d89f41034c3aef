"""Windows on positions: pads, crops and blocks of rows and columns move or widen what a view shows."""

from __future__ import annotations

from dataclasses import replace

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.fields import Node
from pixelsnail_infer.export.lower import Lowering
from pixelsnail_infer.export.trace import TraceNode, Where
from pixelsnail_infer.export.views import Dim, View

__all__ = ["max_pool", "pad_window", "position_axis"]


def position_axis(dim: Dim) -> int | None:
    """0 for rows, 1 for columns, None for anything else."""
    kinds = [a.kind for a in dim if a.kind != "e"]
    return {"y": 0, "x": 1}.get(kinds[0]) if len(kinds) == 1 else None


def pad_window(view: View, low: tuple[int, int], high: tuple[int, int], border: torch.Tensor, where: Where) -> View:
    """The view widened by `low` and `high` (negative: cropped); what is new shows `border`."""
    if view.frame is None or view.node.frame is None:
        raise UnsupportedOpError(f"{where} pads a value that has no rows and columns.")
    h, w = view.node.frame
    (fh, fw), dy, dx = view.frame, view.dy, view.dx
    hides = (low[0] > 0 and dy > 0) or (low[1] > 0 and dx > 0) or (high[0] > 0 and dy + fh < h) or \
        (high[1] > 0 and dx + fw < w)
    differs = view.outside and (view.border is None or not torch.equal(
        view.border.expand(view.node.channels), border.expand(view.node.channels)))
    widened = max(*low, *high) > 0
    if widened and (hides or differs):
        node = Node("map", [view.edge], view.frame, view.node.channels, view.node.dtype, where, None,
                    {"fn": "identity"}, view.node.pixel, view.node.condition)
        view = View(node, view.dims, view.frame)
        (fh, fw), dy, dx = view.frame, 0, 0  # type: ignore[misc]
    frame = (fh + low[0] + high[0], fw + low[1] + high[1])
    if min(frame) < 1:
        raise UnsupportedOpError(f"{where} crops a map to nothing.")
    sizes = {"y": frame[0], "x": frame[1]}
    dims = tuple(tuple(a._replace(size=sizes[a.kind]) if a.kind in sizes else a for a in d) for d in view.dims)
    return replace(view, dims=dims, frame=frame, dy=dy - low[0], dx=dx - low[1],
                   border=border if widened else view.border)


def max_pool(state: Lowering, item: TraceNode) -> list[View | None]:
    """Maxima of blocks of positions: only keys and values may be pooled, so the blocks are noted on the view."""
    view, kernel = state.get(item.args[0]), item.args[1]
    stride = item.args[2] if len(item.args) > 2 and item.args[2] else kernel
    (py, px), rest = (tuple(kernel) * 2)[:2], item.args[3:]
    plain = tuple(kernel) == tuple(stride) and not any(v not in (0, 1, False, [0, 0], [1, 1]) for v in rest)
    axes = [position_axis(d) for d in view.dims[-2:]]
    if not plain or view.frame is None or axes != [0, 1] or view.frame[0] % py or view.frame[1] % px or view.pool:
        raise UnsupportedOpError(f"{item.where}: only blocks that tile the map, without padding or overlap, are "
                                 "understood.")
    if not view.plain:
        view = View(Node("map", [view.edge], view.frame, view.node.channels, view.node.dtype, item.where, None,
                         {"fn": "identity"}, view.node.pixel, view.node.condition), view.dims, view.frame)
    frame = (view.frame[0] // py, view.frame[1] // px)
    sizes = {"y": frame[0], "x": frame[1]}
    dims = tuple(tuple(a._replace(size=sizes.get(a.kind, a.size)) for a in d) for d in view.dims)
    return [replace(view, dims=dims, frame=frame, pool=(py, px)), None]
