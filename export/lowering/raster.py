"""Moves along the raster order: the canvas as a sequence, of which every token shows one so many places before it."""

from __future__ import annotations

from dataclasses import replace

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.fields import Node
from pixelsnail_infer.export.lowering.axes import kinds_of, position_axis, spans_positions
from pixelsnail_infer.export.lowering.elementwise import elementwise
from pixelsnail_infer.export.lowering.views import Dim, View, size_of
from pixelsnail_infer.export.tracing.traced import Where

__all__ = ["along", "chosen", "cut_of", "is_raster", "moved", "own"]


def is_raster(view: View, axis: int) -> bool:
    """Whether dimension `axis` is all pixels in raster order, and not the rows or columns of a map."""
    map_like = len(view.dims) == 4 and position_axis(view, axis) is not None
    plain = view.node.pixel and view.node.keys is None and size_of(view.dims[axis]) > 1
    return plain and spans_positions(view, axis) and not map_like


def cut_of(dim: Dim, where: Where) -> UnsupportedOpError:
    """Why a dimension that is neither channels nor pixels in raster order is not cut."""
    kinds = set(kinds_of(dim))
    if kinds & set("yx") and "c" in kinds:
        return UnsupportedOpError(f"{where} cuts a sequence in which the channels of a pixel are tokens of their own, "
                                  "which is not understood; a pixel may only be one token.")
    return UnsupportedOpError(f"{where} cuts along flattened positions or keys, which is not understood.")


def own(view: View, where: Where) -> View:
    """The view as all of a node's own frame."""
    if view.plain:
        return view
    node = view.node
    return View(Node("map", [view.edge], view.frame, node.channels, node.dtype, where, node.keys, {"fn": "identity"},
                     node.pixel, node.condition), view.dims, view.frame)


def moved(view: View, axis: int, by: int, where: Where) -> View:
    """The view, whose dimension `axis` is the canvas in raster order, with every token `by` places later: position p
    shows p - by, and zeros where there is none. Such a move is one along rows and columns, and another one where a
    row ends."""
    view = own(view, where)
    assert view.frame is not None
    width, zero = view.frame[1], torch.zeros((), dtype=view.node.dtype)
    rows, columns = divmod(by, width)
    here = replace(view, dy=-rows, dx=-columns, border=zero)
    if columns == 0:
        return here
    wrapped = replace(view, dy=-rows - 1, dx=width - columns, border=zero)
    begins = torch.arange(width).lt(columns).expand(view.frame).flatten()
    return chosen(along(begins, axis, len(view.dims)), wrapped, here, where)


def along(values: torch.Tensor, axis: int, rank: int) -> torch.Tensor:
    """A vector as a tensor of `rank` dimensions that varies along `axis`."""
    sizes = [1] * rank
    sizes[axis] = -1
    return values.reshape(sizes)


def chosen(mask: torch.Tensor, yes: View | torch.Tensor, no: View, where: Where) -> View:
    """`yes` where the mask says so, in the dtype of `no`."""
    return elementwise("where", [mask, yes, no], where, dtype=no.node.dtype)
