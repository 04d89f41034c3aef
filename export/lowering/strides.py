"""Values of coarser and finer lattices: strided reads, phases laid side by side, and maps that are placed by index.

A strided read gives a node of a coarser stride, which looks at every so manieth position of its source. A *merge* gives
one of a finer stride, whose positions take turns in reading the phases that it is made of. Positions of both stand at
the pixels `stride * position`, which is what later says when a value is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.fields import Edge, Node
from pixelsnail_infer.export.lattice import cell, divides, times
from pixelsnail_infer.export.lowering.axes import position_axis, with_axes
from pixelsnail_infer.export.lowering.views import Dim, View
from pixelsnail_infer.export.tracing.traced import Where

__all__ = ["common_stride", "every", "interleaved", "regridded", "repeats", "upsampled"]


def common_stride(views: Sequence[View], where: Where) -> tuple[int, int]:
    """The stride of a node that reads all of `views` at its own positions: that of what depends on pixels."""
    placed = [v.node for v in views if v.frame is not None]
    pixel = [node for node in placed if node.pixel]
    moving = pixel or [node for node in placed if node.op != "const"] or placed
    strides = {node.stride for node in (pixel or moving[:1])}
    if len(strides) > 1:
        told = " and ".join(str(stride) for stride in sorted(strides))
        raise UnsupportedOpError(f"{where}: values whose positions are {told} pixels apart meet one by one.")
    return strides.pop() if strides else (1, 1)


def regridded(view: View, stride: tuple[int, int]) -> View:
    """The view of a value that sees no pixels, its node placed at another stride: the same numbers by index."""
    node = view.node
    if node.pixel or view.frame is None or node.stride == stride:
        return view
    if node.op in ("const", "upsample"):  # neither reads by pixel
        return replace(view, node=replace(node, stride=stride))
    placed = Node("upsample", [Edge(node)], node.frame, node.channels, node.dtype, node.where, None,
                  {"factors": (1, 1)}, False, node.condition, stride)
    return replace(view, node=placed)


def every(view: View, axis: int, step: int, where: Where) -> View:
    """Every `step`th row or column of the view, whose dimension `axis` it is, from the first on."""
    place, edge, node = position_axis(view, axis), view.edge, view.node
    if place is None or view.frame is None:
        raise UnsupportedOpError(f"{where} takes every {step}th entry of an axis that is not rows or columns.")
    steps, axes = ((step, 1), (axis, None)) if place == 0 else ((1, step), (None, axis))
    frame = -(-view.frame[0] // steps[0]), -(-view.frame[1] // steps[1])
    if node.op == "shift" and view.plain:  # of what was read with a step before, along the other axis
        (first,) = node.inputs
        edge = Edge(first.source, first.dy, first.dx, first.border)
    sparse = Node("shift", [edge], frame, node.channels, node.dtype, where, node.keys, {}, node.pixel, node.condition,
                  times(node.stride, steps))
    return View(sparse, with_axes(view.dims, axes, frame), frame)


def interleaved(phases: Sequence[View], factors: tuple[int, int], frame: tuple[int, int], where: Where) -> View:
    """Positions of `frame` take turns: (k, l) is phase (k mod factors[0], l mod factors[1]), of which there is one for
    each in raster order, at (k // factors[0], l // factors[1]). The phases are maps `[B, C, rows, columns]` or vectors
    of the same channels."""
    coarse = common_stride(phases, where)
    nodes = [_settled(regridded(view, coarse), where).node for view in phases]
    if not divides(factors, coarse):
        raise UnsupportedOpError(f"{where}: {factors[0]} rows and {factors[1]} columns are made of one whose "
                                 f"neighbours are {coarse} pixels apart; lattices finer than the pixels are not "
                                 "understood.")
    like = next(view for view in phases if view.frame is not None)
    node = Node("merge", [Edge(node) for node in nodes], frame, like.node.channels, like.node.dtype, where, None,
                {"factors": factors}, any(n.pixel for n in nodes), any(n.condition for n in nodes),
                cell(coarse, factors))
    return View(node, with_axes(like.dims, (2, 3), frame), frame)


def upsampled(view: View, axes: tuple[int | None, int | None], factors: tuple[int, int], where: Where) -> View:
    """Every position of the view `factors` times in each direction."""
    assert view.frame is not None
    frame = times(view.frame, factors)
    if factors == (1, 1):
        return view
    node = _settled(view, where).node
    if node.pixel:
        if not divides(factors, node.stride):
            raise UnsupportedOpError(f"{where}: upsampling by {factors} of a map whose positions are {node.stride} "
                                     "pixels apart; lattices finer than the pixels are not understood.")
        many = [Edge(node) for _ in range(factors[0] * factors[1])]
        finer = Node("merge", many, frame, node.channels, node.dtype, where, None, {"factors": factors}, True,
                     node.condition, cell(node.stride, factors))
    else:
        finer = Node("upsample", [Edge(node)], frame, node.channels, node.dtype, where, None, {"factors": factors},
                     False, node.condition)
    return View(finer, with_axes(view.dims, axes, frame), frame)


def _settled(view: View, where: Where) -> View:
    """The view as a plain one."""
    if view.plain or view.frame is None:
        return view
    node = Node("map", [view.edge], view.frame, view.node.channels, view.node.dtype, where, None, {"fn": "identity"},
                view.node.pixel, view.node.condition, view.node.stride)
    return View(node, view.dims, view.frame)


def repeats(view: View, where: Where) -> View:
    """Rows and columns of which a dimension has each several times in a row (`repeat_interleave`) as upsampled ones."""
    for axis, dim in enumerate(view.dims):
        for place, kind in enumerate("yx"):
            factor = _copies(view, dim, kind, place)
            if factor == 1:
                continue
            plain: Dim = tuple(a for a in dim if a.kind != "e")
            once = replace(view, dims=(*view.dims[:axis], plain, *view.dims[axis + 1:]))
            factors, axes = ((factor, 1), (axis, None)) if place == 0 else ((1, factor), (None, axis))
            view = upsampled(once, axes, factors, where)
    return view


def _copies(view: View, dim: Dim, kind: str, place: int) -> int:
    """How often a dimension has each of the rows or columns in a row."""
    large = [a for a in dim if a.size > 1]
    if view.frame is None or not large or large[-1].kind != "e":
        return 1
    alone = view.frame[place] == 1 and any(a.kind == kind for a in dim) and view.node.stride[place] % large[0].size == 0
    found = [a.kind for a in large] == [kind, "e"] or (alone and len(large) == 1 and view.node.pixel)
    return large[-1].size if found else 1
