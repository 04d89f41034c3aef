"""The exporter's own graph: fields, that is values per raster position, without position axes in their shapes.

A node stands for one value per slot and, when it has a `frame`, per position of that frame. `channels` is the shape of
the value at one position; a node with `keys` has one value per position *and* key position (attention weights). Pads,
crops and shifts are no nodes: every edge says at which offset it reads its source and what it finds outside.

A node may live at a *stride*: its position k stands at pixel `stride * k`, and `frame` counts its own positions.
Offsets of edges and taps are in pixels, whatever the strides of reader and source. On the canvas (behind `canonical`) a
value of stride s is computed at the pixels that are multiples of s and *held* at the others (`export.lattice`):

- `frame` of what depends on pixels is `(H // sy, W // sx)`;
- every node but `merge` reads sources of its own stride or of a finer one that divides it, at offsets that are
  multiples of the source's stride: where the reader is live, what it reads is live, too;
- `merge` has a finer stride than its sources, `factors` times finer. It has `fy * fx` inputs, one for each phase in
  raster order: at pixel (row, column) of its lattice it is input `(row // sy % fy) * fx + column // sx % fx`
  (`phase_of`), held: what that source was at `floored(pixel + offset)`. Behind `stage_program` the offsets of these
  edges are 0, so that phase (0, 0) reads a live source in place and every other phase reads one that is held. A source
  may be the input of several phases (nearest upsampling: of all); a phase that sees no pixels is a constant or a
  condition's value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from pixelsnail_infer.export.lattice import Offset, floored, times
from pixelsnail_infer.export.tracing.traced import Where

__all__ = ["key_ends", "TAPPED", "Edge", "Node", "Offset", "consumers", "duplicate", "is_held", "own_share", "phase_of",
           "reads", "topological"]

TAPPED = ("linear", "lookup", "shift")  # nodes that read elsewhere than at their own position


@dataclass(slots=True, eq=False)
class Node:
    """One value. `op` is one of

    input, const, map (elementwise), linear (taps), lookup (taps of a one-hot), cat, slice, reshape, permute, softmax,
    reduce, embedding, upsample (of a condition, by index: position k reads k // factors, whatever the strides), spread
    (a vector laid out as a map), pool (maxima of blocks), tokens (vectors and maps one after the other, as a map of one
    row), shift, merge (phases of a finer lattice), key_dot, key_mix, key_softmax, key_reduce.

    A key_softmax may be over the keys of several inputs together; then it is the share of one of them, `own_share`.
    """

    op: str
    inputs: list[Edge]
    frame: tuple[int, int] | None
    channels: tuple[int, ...]
    dtype: torch.dtype
    where: Where
    keys: tuple[int, int] | None = None
    attrs: dict[str, Any] = field(default_factory=dict)
    pixel: bool = False  # depends on pixels
    condition: bool = False  # depends on conditions
    stride: Offset = (1, 1)  # of its positions, in pixels

    def __repr__(self) -> str:
        extra = self.attrs.get("fn") or self.attrs.get("name") or ""
        return f"<{self.op} {extra} {self.frame} {self.channels} {self.where.module}>"


@dataclass(slots=True, eq=False)
class Edge:
    """Reads `source` at offset `(dy, dx)`, in pixels; outside its frame it finds `border` (None: never outside).

    The taps of a linear node add their own offsets. An edge into keys or values reads all positions (`keys`), or with
    `pool` the maximum of every block of `(rows, columns)` positions.
    """

    source: Node
    dy: int = 0
    dx: int = 0
    border: torch.Tensor | None = None
    keys: bool = False
    pool: Offset | None = None


def topological(outputs: Iterable[Node]) -> list[Node]:
    """All nodes that `outputs` need, sources first."""
    order: list[Node] = []
    seen: set[Node] = set()
    stack: list[tuple[Node, Iterator[Edge]]] = []
    for out in outputs:
        if out in seen:
            continue
        seen.add(out)
        stack.append((out, iter(out.inputs)))
        while stack:
            node, edges = stack[-1]
            for edge in edges:
                if edge.source not in seen:
                    seen.add(edge.source)
                    stack.append((edge.source, iter(edge.source.inputs)))
                    break
            else:
                order.append(node)
                stack.pop()
    return order


def duplicate(output: Node) -> Node:
    """The same network in nodes and edges of its own. Tensors and attributes are shared, which nobody changes."""
    copies: dict[Node, Node] = {}
    for node in topological([output]):
        copies[node] = replace(node, inputs=[replace(edge, source=copies[edge.source]) for edge in node.inputs])
    return copies[output]


def consumers(nodes: Iterable[Node]) -> dict[Node, list[tuple[Node, Edge]]]:
    """For every node, the nodes that read it and the edges by which they do."""
    table: dict[Node, list[tuple[Node, Edge]]] = {}
    for node in nodes:
        table.setdefault(node, [])
        for edge in node.inputs:
            table.setdefault(edge.source, []).append((node, edge))
    return table


def key_ends(edge: Edge, shape: Offset) -> torch.Tensor:
    """The last raster position that each key of an edge into keys or values holds, int64 `[keys]`, ascending."""
    py, px = edge.pool or (1, 1)
    rows = torch.arange(py - 1, shape[0], py)
    return (rows[:, None] * shape[1] + torch.arange(px - 1, shape[1], px)).flatten()


def phase_of(node: Node, edge: Edge) -> Offset:
    """The phase of a merge at which it reads this edge: that of pixel `times(phase, node.stride)`."""
    return divmod(node.inputs.index(edge), node.attrs["factors"][1])


def is_held(node: Node, edge: Edge) -> bool:
    """Whether `node` reads the source only at pixels at which the source is not live."""
    return node.op == "merge" and edge.source.frame is not None and phase_of(node, edge) != (0, 0)


def own_share(node: Node) -> int:
    """Of the inputs of a softmax over keys, the number of the one whose keys the node has."""
    return int(node.attrs.get("share", 0))


def reads(node: Node, edge: Edge) -> list[Offset]:
    """The offsets, in pixels, at which `node` reads `edge`'s source, taps included: from the reader's pixel to the live
    pixel of the source. A merge has one for each edge, which is that of its phase."""
    if node.op == "merge" and edge.source.frame is not None:
        row, column = times(phase_of(node, edge), node.stride)
        dy, dx = floored((row + edge.dy, column + edge.dx), edge.source.stride)
        return [(dy - row, dx - column)]
    taps = node.attrs.get("taps")
    if taps is None or edge is not node.inputs[0]:
        return [(edge.dy, edge.dx)]
    return [(edge.dy + dy, edge.dx + dx) for dy, dx in taps]
