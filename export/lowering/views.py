"""How a traced tensor's dimensions are made of axes: batch, row, column, key row, key column and channels.

A traced tensor is a `View` of a node: every dimension is a product of atoms, and its positions are a window on the
node's frame. Permutes, views and transposes regroup atoms and move no data; pads and slices move the window. Atoms of
size 1 are hints only (see `axes`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.fields import Edge, Node
from pixelsnail_infer.export.lattice import times
from pixelsnail_infer.export.tracing.traced import BatchInt, Where

__all__ = ["Atom", "Dim", "View", "channel_view", "drop_axes", "filled", "regroup", "size_of", "whole"]


class Atom(NamedTuple):
    """One axis. `kind`: b batch, y row, x column, Y key row, X key column, c channel axis `axis`, e broadcast."""

    kind: str
    size: int
    axis: int = -1


Dim = tuple[Atom, ...]


@dataclass(frozen=True, slots=True)
class View:
    """`node` seen through a window: position (i, j) shows the node at (i + dy, j + dx), or `border` outside its frame,
    in positions of the node whatever its stride.

    With `pool` the window's positions are the maxima of blocks of that many rows and columns.
    """

    node: Node
    dims: tuple[Dim, ...]
    frame: tuple[int, int] | None = None
    dy: int = 0
    dx: int = 0
    border: torch.Tensor | None = None
    pool: tuple[int, int] | None = None

    @property
    def edge(self) -> Edge:
        if self.pool is not None:
            raise UnsupportedOpError(f"{self.node.where}: pooled values may only be keys and values of attention, in "
                                     "matrix products (einsum takes a single key by an elementwise one).")
        return Edge(self.node, *times((self.dy, self.dx), self.node.stride), self.border if self.outside else None)

    @property
    def outside(self) -> bool:
        """Whether the window reaches beyond the node's frame."""
        if self.frame is None or self.node.frame is None:
            return False
        (h, w), (fh, fw) = self.node.frame, self.frame
        return self.dy < 0 or self.dx < 0 or self.dy + fh > h or self.dx + fw > w

    @property
    def plain(self) -> bool:
        """Whether the window is the node's own frame."""
        return self.pool is None and self.dy == 0 and self.dx == 0 and self.frame == self.node.frame


def whole(node: Node, dims: tuple[Dim, ...]) -> View:
    """The plain view of `node`."""
    return View(node, dims, node.frame)


def size_of(dim: Dim) -> int:
    """Number of elements along a dimension, without the batch."""
    return math.prod(a.size for a in dim if a.kind != "b")


def channel_view(node: Node, where: Where, shape: tuple[int, ...]) -> Node:
    """`node` with its channels reshaped (no data moves)."""
    if shape == node.channels:
        return node
    return Node("reshape", [Edge(node)], node.frame, shape, node.dtype, where, node.keys, {}, node.pixel,
                node.condition, node.stride)


def regroup(view: View, target: list[int | BatchInt], where: Where) -> View:
    """The view with its flat sequence of atoms cut into dimensions of the target sizes, channel axes split."""
    atoms = [a for dim in view.dims for a in dim]
    left = list(enumerate(a for a in atoms if a.size > 1 or a.kind == "b"))
    spans: list[list[int]] = [[] for _ in left]  # the dimensions that each of them is in
    target = filled(atoms, target, where)
    dims: list[list[Atom]] = [[] for _ in target]
    cut = False  # whether a channel axis had to be split
    for number, size in enumerate(target):
        want, batch = (size.factor, True) if isinstance(size, BatchInt) else (size, False)
        while want > 1 or batch:
            if not left:
                raise UnsupportedOpError(f"{where}: a reshape to {target} that mixes axes is not understood.")
            index, atom = left.pop(0)
            if atom.kind == "b":
                batch = False
            elif want % atom.size == 0:
                want //= atom.size
            elif atom.kind == "c" and want > 1 and atom.size % want == 0:
                left.insert(0, (index, atom._replace(size=atom.size // want)))
                atom, want, cut = atom._replace(size=want), 1, True
            else:
                raise UnsupportedOpError(f"{where}: this reshape splits rows or columns, which is not understood.")
            spans[index].append(number)
            dims[number].append(atom)
    if left:
        raise UnsupportedOpError(f"{where}: a reshape to {target} that mixes axes is not understood.")
    _hint(atoms, spans, dims)
    found = tuple(tuple(dim) for dim in dims)
    return _renumber(view, found, where) if cut else replace(view, dims=found)


def _hint(atoms: list[Atom], spans: list[list[int]], dims: list[list[Atom]]) -> None:
    """Put position and key axes of size 1 back, from the last to the first: each into a dimension of its own if there
    is one between the larger axes that it stands between, else beside its sibling."""
    free = [number for number, dim in enumerate(dims) if not dim]
    index, after = len(spans), len(dims) - 1
    for atom in reversed(atoms):
        if atom.size > 1 or atom.kind == "b":
            index -= 1
            after = spans[index][0]
        elif atom.kind in "yxYX":
            before = spans[index - 1][-1] if index else 0
            room = [number for number in free if before <= number <= after]
            behind = not room and atom.kind in "xX"
            after = room[-1] if room else before if behind else after
            free = [number for number in free if number != after]
            larger = [k for k, a in enumerate(dims[after]) if a.size > 1 or a.kind == "b"]
            dims[after].insert(larger[-1] + 1 if behind and larger else 0, atom)


def filled(atoms: list[Atom], target: list[int | BatchInt], where: Where) -> list[int | BatchInt]:
    """Replace a -1 in a target shape by what is left."""
    known = math.prod(t.factor if isinstance(t, BatchInt) else t for t in target if t != -1)
    total = math.prod(a.size for a in atoms if a.kind != "b")
    has_batch = any(a.kind == "b" for a in atoms)
    batch_named = any(isinstance(t, BatchInt) for t in target)
    rest: int | BatchInt = total // max(known, 1)
    if has_batch and not batch_named:
        rest = BatchInt(total // max(known, 1))
    return [rest if t == -1 else t for t in target]


def _renumber(view: View, dims: tuple[Dim, ...], where: Where) -> View:
    """Give split channel axes numbers of their own, and the node the finer shape."""
    parts: dict[int, list[Atom]] = {}
    for dim in dims:
        for atom in dim:
            if atom.kind == "c":
                parts.setdefault(atom.axis, []).append(atom)
    shape: list[int] = []
    start: dict[int, int] = {}
    for axis, size in enumerate(view.node.channels):
        start[axis] = len(shape)
        shape += [a.size for a in parts[axis]] if axis in parts else [size]
    taken = dict.fromkeys(parts, 0)

    def renumbered(atom: Atom) -> Atom:
        if atom.kind != "c":
            return atom
        number = start[atom.axis] + taken[atom.axis]
        taken[atom.axis] += 1
        return atom._replace(axis=number)

    new = tuple(tuple(renumbered(a) for a in dim) for dim in dims)
    border = view.border
    if border is not None and border.ndim:
        border = border.reshape(shape)
    return replace(view, node=channel_view(view.node, where, tuple(shape)), dims=new, border=border)


def drop_axes(view: View, order: list[int], where: Where, shape: tuple[int, ...]) -> View:
    """The view with its node's channel axes in `order`, reshaped to `shape` (dims are the caller's to set)."""
    node, border = view.node, view.border
    missing = [k for k in range(len(node.channels)) if k not in order]
    if any(node.channels[k] != 1 for k in missing):
        raise UnsupportedOpError(f"{where}: a channel axis is used in a way that is not understood.")
    if border is not None and border.ndim:
        border = border.expand(node.channels).permute(*order, *missing).reshape(shape)
    if order != sorted(order):
        permuted = tuple(node.channels[k] for k in (*order, *missing))
        node = Node("permute", [Edge(node)], node.frame, permuted, node.dtype, where, node.keys,
                    {"order": (*order, *missing)}, node.pixel, node.condition, node.stride)
    return replace(view, node=channel_view(node, where, shape), border=border)
