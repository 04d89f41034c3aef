"""Tokens in front of the canvas, whatever they were made of, as one map of one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.fields import Node
from pixelsnail_infer.export.lowering.axes import kinds_of, solid, spans_positions
from pixelsnail_infer.export.lowering.elementwise import materialised, spread
from pixelsnail_infer.export.lowering.raster import own
from pixelsnail_infer.export.lowering.views import Atom, Dim, View, drop_axes, size_of
from pixelsnail_infer.export.tracing.traced import Where

__all__ = ["token_map"]


def token_map(parts: Sequence[View | torch.Tensor], like: View, axis: int, where: Where) -> View:
    """The parts one after the other along dimension `axis`, each a constant, a vector or a map of conditions; all other
    dimensions are those of `like`."""
    dims = _dims(like, axis)
    shape = tuple(a.size for k, dim in enumerate(dims) if k != axis for a in dim if a.kind == "c")
    found = [_constant(part, like, axis, shape, where) if isinstance(part, torch.Tensor) else _map(part, axis, where)
             for part in parts]
    if any(one.node.channels != shape for one in found):
        raise UnsupportedOpError(f"{where} joins tokens of {[one.node.channels for one in found]} numbers to pixels of "
                                 f"{shape}.")
    total = sum(one.frame[0] * one.frame[1] if one.frame else 1 for one in found)
    node = found[0].node
    if len(found) > 1 or found[0].frame != (1, total):
        node = Node("tokens", [one.edge for one in found], (1, total), shape, like.node.dtype, where, None, {}, False,
                    any(one.node.condition for one in found))
    return View(node, (*dims[:axis], (Atom("y", 1), Atom("x", total)), *dims[axis + 1:]), (1, total))


def _dims(like: View, axis: int) -> list[Dim]:
    """Every dimension with its batch, and all its channels as one axis."""
    dims, count = list[Dim](), 0
    for k, dim in enumerate(like.dims):
        batch, size = tuple(a for a in dim if a.kind == "b"), size_of(tuple(a for a in dim if a.kind == "c"))
        own = (Atom("c", size, count),) if size > 1 and k != axis else ()
        count += len(own)
        dims.append((*batch, *own))
    return dims


def _constant(tensor: torch.Tensor, like: View, axis: int, shape: tuple[int, ...], where: Where) -> View:
    count = tensor.shape[axis]
    sizes = [count if k == axis else size_of(tuple(a for a in dim if a.kind == "c")) for k, dim in enumerate(like.dims)]
    value = tensor.expand(sizes).movedim(axis, 0).reshape(1, count, *shape).to(like.node.dtype)
    return View(Node("const", [], (1, count), shape, value.dtype, where, None, {"value": value}), (), (1, count))


def _map(part: View, axis: int, where: Where) -> View:
    """A map of tokens, or a vector that is one, with one channel axis for every dimension that has channels."""
    part = materialised(part, axis, where)
    kinds = set(kinds_of(part.dims[axis]))
    if part.frame is None and kinds == {"c"}:
        others = tuple(dim for k, dim in enumerate(part.dims) if k != axis)
        part = spread(replace(part, dims=(*others, (), part.dims[axis])), where)
        part = replace(part, dims=(*part.dims[:-2], part.dims[-2] + part.dims[-1]))
        axis = len(part.dims) - 1
    if (part.frame is None and kinds) or (part.frame is not None and not spans_positions(part, axis)):
        raise UnsupportedOpError(f"{where}: tokens in front of the pixels that are neither vectors nor a map of "
                                 "conditions.")
    groups = [[a for a in solid(dim) if a.kind != "b"] for k, dim in enumerate(part.dims) if k != axis]
    if any(a.kind != "c" for group in groups for a in group):
        raise UnsupportedOpError(f"{where}: tokens in front of the pixels that are repeated, or have keys.")
    order = [a.axis for group in groups for a in group]
    shape = tuple(size_of(tuple(group)) for group in groups if group)
    return replace(own(drop_axes(part, order, where, shape), where), dims=())
