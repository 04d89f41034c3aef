"""Elementwise operations: align the axes of all operands, constants included, and make one map node."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.fields import Edge, Node
from pixelsnail_infer.export.lowering.axes import largest, solid
from pixelsnail_infer.export.lowering.positionwise import positionwise
from pixelsnail_infer.export.lowering.state import Flip
from pixelsnail_infer.export.lowering.views import Atom, Dim, View, channel_view, drop_axes, regroup, size_of
from pixelsnail_infer.export.tracing.traced import BatchInt, Where

__all__ = ["align", "constant", "elementwise", "laid_out", "materialised", "spread", "without_nan"]


def elementwise(fn: str, operands: list[View | torch.Tensor], where: Where, *, params: dict[str, Any] | None = None,
                dtype: torch.dtype | None = None) -> View:
    """`fn` over broadcast operands; at least one is a view."""
    views, dims, channels, keys = align(operands, where)
    if dtype is None:
        dtype = views[0].node.dtype
        for view in views[1:]:
            dtype = torch.promote_types(dtype, view.node.dtype)
    return positionwise("map", views, channels, dims, where, attrs={"fn": fn, "params": params or {}}, dtype=dtype,
                        keys=keys)


def without_nan(view: View, where: Where) -> View:
    """The view with zeros where it is NaN."""
    zero = torch.zeros((), dtype=view.node.dtype)
    hidden = elementwise("isnan", [view], where, dtype=torch.bool)
    return elementwise("where", [hidden, zero, view], where, dtype=view.node.dtype)


def align(operands: list[View | torch.Tensor], where: Where
          ) -> tuple[list[View], tuple[Dim, ...], tuple[int, ...], tuple[int, int] | None]:
    """Operands as views whose channels broadcast as they stand; the result's dims, channels and keys."""
    rank = max(len(o.dims) if isinstance(o, View) else o.ndim for o in operands)
    operands = [replace(o, dims=((),) * (rank - len(o.dims)) + o.dims) if isinstance(o, View) else o for o in operands]
    hints = _hints(operands)
    dims: list[Dim] = []
    for axis in range(rank):
        operands, dim = _unify(operands, axis, where)
        dims.append(dim)
    dims = _grow(operands, dims)
    numbered, channels = _number(dims)
    present = [a.kind for d in numbered for a in d]
    if any(present.count(kind) > 1 for kind in "yxYX"):
        raise UnsupportedOpError(f"{where} pairs every position with every other one, which is understood of products "
                                 "(matmul, einsum) only.")
    numbered = tuple((*d, *(a for a in hints.get(k, ()) if a.kind not in present)) for k, d in enumerate(numbered))
    frame = largest([o.frame for o in operands if isinstance(o, View)])
    keys = next((o.node.keys for o in operands if isinstance(o, View) and o.node.keys), None)
    views = [_fit(o, numbered, channels, where) if isinstance(o, View)
             else constant(o, numbered, len(channels), frame, keys, where) for o in operands]
    return views, numbered, channels, keys


def _hints(operands: list[View | torch.Tensor]) -> dict[int, list[Atom]]:
    """Where position and key axes of size 1 stand, by dimension: each kind where the first operand has it."""
    found: dict[int, list[Atom]] = {}
    known: set[str] = set()
    for view in operands:
        if isinstance(view, View):
            own = [(k, a) for k, d in enumerate(view.dims) for a in d if a.kind in "yxYX" and a.size == 1]
            for k, atom in own:
                if atom.kind not in known:
                    found.setdefault(k, []).append(atom)
            known.update(a.kind for _, a in own)
    return found


def _unify(operands: list[View | torch.Tensor], axis: int, where: Where
           ) -> tuple[list[View | torch.Tensor], Dim]:
    """One dimension's atoms, the operands adapted where they cut or place it differently."""
    dim: Dim = ()
    for number, other in enumerate(operands):
        if not isinstance(other, View) or not solid(other.dims[axis]):
            continue
        atoms = solid(other.dims[axis])
        if all(a.kind == "e" for a in atoms):
            dim = dim or atoms
        elif not dim or all(a.kind == "e" for a in dim):
            dim = atoms
        elif _kinds(dim) != _kinds(atoms):
            if all(a.kind == "c" for a in atoms) and {a.kind for a in dim} & {"y", "x"}:
                operands[number] = spread(other, where)
                continue
            finer = dim if len(dim) >= len(atoms) else atoms
            sizes: list[int | BatchInt] = [a.size for a in finer]
            operands = [_cut(o, axis, sizes, where) if isinstance(o, View) else o for o in operands]
            dim = next(solid(o.dims[axis]) for o in operands if isinstance(o, View) and size_of(o.dims[axis]) > 1)
            if _kinds(dim) != _kinds(solid(operands[number].dims[axis])):  # type: ignore[union-attr]
                raise UnsupportedOpError(f"{where}: operands whose axes do not match ({dim} and {atoms}).")
    return operands, dim


def _kinds(dim: Dim) -> list[tuple[str, int]]:
    return [(a.kind, a.size) for a in dim]


def _cut(view: View, axis: int, sizes: list[int | BatchInt], where: Where) -> View:
    """Cut one dimension's channel axis into `sizes`, if it is one axis of that total."""
    dim = solid(view.dims[axis])
    if len(dim) != 1 or dim[0].kind != "c" or dim[0].size != math.prod(int(s) for s in sizes if isinstance(s, int)):
        return view
    plain = [_plain(solid(d)) for d in view.dims]
    flat = [s for d in plain[:axis] for s in d] + sizes + [s for d in plain[axis + 1:] for s in d]
    cut = regroup(view, flat, where)
    counts = [len(d) for d in plain]
    counts[axis] = len(sizes)
    dims, start = [], 0
    for count in counts:
        dims.append(tuple(a for d in cut.dims[start:start + count] for a in d))
        start += count
    return replace(cut, dims=tuple(dims))


def _plain(dim: Dim) -> list[int | BatchInt]:
    return [BatchInt(1) if a.kind == "b" else a.size for a in dim] or [1]


def _grow(operands: list[View | torch.Tensor], dims: list[Dim]) -> list[Dim]:
    """Channel axes that only a constant has (a one-hot's levels)."""
    fresh = 10_000
    for axis, dim in enumerate(dims):
        size = max((o.shape[o.ndim - len(dims) + axis] for o in operands
                    if isinstance(o, torch.Tensor) and o.ndim - len(dims) + axis >= 0), default=1)
        if size > 1 and size_of(dim) == 1 and not any(a.kind == "b" for a in dim):
            dims[axis] = (*dim, Atom("c", size, fresh))
            fresh += 1
    return dims


def _number(dims: list[Dim]) -> tuple[tuple[Dim, ...], tuple[int, ...]]:
    """Number the result's channel axes in the order in which they stand."""
    channels: list[int] = []
    result: list[Dim] = []
    for dim in dims:
        atoms = []
        for atom in dim:
            if atom.kind == "c":
                atom = atom._replace(axis=len(channels))
                channels.append(atom.size)
            atoms.append(atom)
        result.append(tuple(atoms))
    return tuple(result), tuple(channels)


def _fit(view: View, dims: tuple[Dim, ...], channels: tuple[int, ...], where: Where) -> View:
    """The view with its channel axes in the result's order and 1 where it broadcasts."""
    order: list[int] = []
    shape = [1] * len(channels)
    for mine, result in zip(view.dims, dims, strict=True):
        own = [a for a in mine if a.kind == "c" and a.size > 1]
        target = [a for a in result if a.kind == "c"]
        if not own:
            continue
        if [a.size for a in own] != [a.size for a in target]:
            raise UnsupportedOpError(f"{where}: channel axes of sizes {[a.size for a in own]} and "
                                     f"{[a.size for a in target]} meet.")
        for a, t in zip(own, target, strict=True):
            order.append(a.axis)
            shape[t.axis] = a.size
    if len(order) == len(view.node.channels) and order == sorted(order) and tuple(shape) == view.node.channels:
        return view
    return drop_axes(view, order, where, tuple(shape))


def constant(tensor: torch.Tensor, dims: tuple[Dim, ...], rank: int, frame: tuple[int, int] | None,
             keys: tuple[int, int] | None, where: Where) -> View:
    """A constant laid out like `dims`: `[h, w, *channels]` if it varies over positions, keys last."""
    tensor = tensor.reshape((1,) * (len(dims) - tensor.ndim) + tuple(tensor.shape))
    sizes: list[int] = []
    place: dict[tuple[str, int], int] = {}
    for axis, dim in enumerate(dims):
        whole = tensor.shape[axis] > 1
        atoms = [a for a in solid(dim) if a.kind != "e"]
        if whole and not atoms:
            raise UnsupportedOpError(f"{where}: a constant of shape {tuple(tensor.shape)} cannot be placed.")
        for atom in atoms:
            place[atom.kind, atom.axis if atom.kind == "c" else 0] = len(sizes)
            sizes.append(atom.size if whole and atom.kind != "b" else 1)
    tensor = tensor.reshape(sizes)
    wanted = [("y", 0), ("x", 0), *(("c", k) for k in range(rank)), ("Y", 0), ("X", 0)]
    found = [place[key] for key in wanted if key in place]
    tensor = tensor.permute([*found, *(k for k in range(tensor.ndim) if k not in found)])  # what is left: the batch
    every = iter(tensor.shape)
    tensor = tensor.reshape([next(every) if key in place else 1 for key in wanted])  # [h, w, *channels, kh, kw]
    varies, keyed = max(tensor.shape[:2]) > 1, max(tensor.shape[-2:]) > 1
    tensor = tensor.expand(*(frame if varies and frame else (1, 1)), *tensor.shape[2:2 + rank],
                           *(keys if keyed and keys else (1, 1)))
    tensor = tensor.flatten(-2) if keyed else tensor[..., 0, 0]
    tensor = tensor if varies else tensor[0, 0]
    node = Node("const", [], frame if varies else None, tuple(tensor.shape[2 * varies:2 * varies + rank]), tensor.dtype,
                where, keys if keyed else None, {"value": tensor})
    return View(node, dims, node.frame)


def materialised(view: View, axis: int, where: Where) -> View:
    """The view with dimension `axis` as channels where it only repeats one value."""
    dim = solid(view.dims[axis])
    if not dim or any(a.kind != "e" for a in dim):
        return view
    sizes = [1] * len(view.dims)
    sizes[axis] = size_of(dim)
    once = replace(view, dims=tuple(() if k == axis else d for k, d in enumerate(view.dims)))
    return elementwise("mul", [once, torch.ones(sizes, dtype=view.node.dtype)], where)


def laid_out(view: View, where: Where) -> View:
    """`spread` where a vector, viewed as a map, is about to be padded, cropped or joined along its rows or columns."""
    plain = len(view.dims) == 4 and all(a.kind == "c" for d in view.dims[-2:] for a in solid(d))
    rows = plain and any(solid(d) for d in view.dims[-2:])
    return spread(view, where) if rows and view.frame is None and not view.node.pixel else view


def spread(view: View, where: Where) -> View:
    """A vector whose last two axes are laid out over positions (a linear layer's output viewed as a map)."""
    if view.frame is not None or any(a.kind not in "ce" for d in view.dims[-2:] for a in solid(d)):
        raise UnsupportedOpError(f"{where}: a value's channels meet another value's rows or columns.")
    if view.node.pixel:
        error = UnsupportedOpError(f"{where}: a value that depends on pixels has its channels laid out over positions.")
        raise Flip(view.node.attrs["product"], error) if "product" in view.node.attrs else error
    *others, height, width = ([a for a in solid(d) if a.kind == "c"] for d in view.dims)
    frame = (size_of(tuple(height)), size_of(tuple(width)))
    rest = [a for atoms in others for a in atoms]
    shape = (*(a.size for a in rest), *frame)
    moved = drop_axes(view, [a.axis for a in (*rest, *height, *width)], where, shape)
    node = Node("spread", [Edge(channel_view(moved.node, where, shape))], frame, shape[:-2], view.node.dtype, where,
                None, {}, False, view.node.condition)
    kept = iter(range(len(rest)))
    dims = tuple(tuple(a._replace(axis=next(kept)) if a.kind == "c" else a for a in solid(d)) for d in view.dims[:-2])
    return View(node, (*dims, (Atom("y", frame[0]),), (Atom("x", frame[1]),)), frame)
