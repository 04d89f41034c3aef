"""Where kept values lie in memory: packed line canvases, and one cache per attended value.

A canvas is a ring of rows with margins that hold the border: cell (row r, column c) of member n is
`state[b, n, (r mod rows) * stride + left + c]`. Cells are pixels, or for values of a stride the pixels at which those
are computed: rows, columns and margins count cells. Values of one width, border, writer and stride share a canvas, so
that one scatter ends the graph that writes them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.analysis.depths import together
from pixelsnail_infer.export.analysis.growth import growing
from pixelsnail_infer.export.analysis.stack import Stacks, find_stacks
from pixelsnail_infer.export.analysis.stages import Program, Stage
from pixelsnail_infer.export.analysis.states import Kept
from pixelsnail_infer.export.fields import Edge, Node, Offset

__all__ = ["Cache", "Canvas", "Layout", "lay_out"]


@dataclass(frozen=True, slots=True)
class Canvas:
    """A packed canvas `[B, members, rows * stride, channels]`."""

    name: str
    members: tuple[Node, ...]
    rows: int
    left: int
    right: int
    width: int
    channels: int
    border: float
    writer: str
    every: Offset = (1, 1)
    """The stride of its values: a cell for so many rows and columns."""

    @property
    def stride(self) -> int:
        """Cells from one row to the next."""
        return self.left + self.width + self.right

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.members), self.rows * self.stride, self.channels

    @property
    def axes(self) -> tuple[int | str, ...]:
        """The shape as graphs have it."""
        return self.shape


@dataclass(frozen=True, slots=True)
class Cache:
    """All positions of one value `[B, heads, P, d]`, or the maxima of its blocks. Inclusive: read after the write.

    One that `grows` may be as short as the rows that were begun."""

    name: str
    member: Node
    positions: int
    role: str
    inclusive: bool
    writer: str
    pool: tuple[int, int] | None = None
    grows: bool = False

    @property
    def members(self) -> tuple[Node, ...]:
        """As a canvas has them."""
        return (self.member,)

    @property
    def shape(self) -> tuple[int, int, int]:
        channels = self.member.channels
        return math.prod(channels[:-1]), self.positions, channels[-1] if channels else 1

    @property
    def axes(self) -> tuple[int | str, ...]:
        """The shape as graphs have it that take the cache; the name of an axis that grows tells its full length."""
        heads, positions, width = self.shape
        return heads, f"K{positions}" if self.grows else positions, width


@dataclass(slots=True)
class Layout:
    """All states. `place[node]` is its canvas and member number; `growing` has the nodes over keys of caches that grow,
    each with an edge by which such a cache is read."""

    canvases: list[Canvas]
    caches: list[Cache]
    place: dict[Node, tuple[Canvas, int]]
    cache: dict[Node, Cache]
    stacks: Stacks
    growing: dict[Node, Edge]


def lay_out(program: Program, kept: dict[Node, Kept], stacks: Stacks | None = None) -> Layout:
    """Assign every kept value its place; `stacks` are those of the step unless others are given."""
    groups: dict[tuple[int, float, str, Offset], list[Node]] = {}
    for node, entry in kept.items():
        if entry.canvas:
            writer = "row" if program.stage[node] <= Stage.ROW else "step"
            key = (math.prod(node.channels), _border(program, node), writer, node.stride)
            groups.setdefault(key, []).append(node)
    layout = Layout([], [], {}, {}, find_stacks(program) if stacks is None else stacks, growing(program))
    grown = {edge.source for node in layout.growing for edge in node.inputs if edge.keys}
    apart = together(program, (Stage.BEFORE, Stage.AFTER))
    for members in groups.values():
        _gather_stacks(members, layout.stacks)
        if all(member in apart for member in members):  # those that are computed together side by side
            members.sort(key=apart.__getitem__)
    for (channels, border, writer, every), members in groups.items():
        entries = [kept[m] for m in members]
        rows = max(1, max(e.rows for e in entries)) + (writer == "row")
        role = "pixels" if members == [program.pixel] else "row" if writer == "row" else "canvas"
        canvas = Canvas(f"state.{role}.{len(layout.canvases)}", tuple(members), rows, max(e.left for e in entries),
                        max(e.right for e in entries), program.shape[1] // every[1], channels, border, writer, every)
        layout.canvases.append(canvas)
        layout.place.update({m: (canvas, k) for k, m in enumerate(members)})
    for node, entry in kept.items():
        if entry.cache:
            writer = "row" if program.stage[node] <= Stage.ROW else "step"
            positions = math.prod(program.shape) // math.prod(entry.pool or (1, 1))
            cache = Cache(f"state.{entry.cache}.{len(layout.caches)}", node, positions, entry.cache, entry.inclusive,
                          writer, entry.pool, node in grown)
            layout.caches.append(cache)
            layout.cache[node] = cache
    return layout


def _gather_stacks(members: list[Node], stacks: Stacks) -> None:
    """Sort so that the members of a stack stand side by side, where its first one stood."""
    place = {member: k for k, member in enumerate(members)}
    first: dict[int, int] = {}
    for member in members:
        if member in stacks.of:
            first.setdefault(id(stacks.of[member][0]), place[member])
    members.sort(key=lambda m: (first[id(stacks.of[m][0])], stacks.of[m][1]) if m in stacks.of else (place[m], 0))


def _border(program: Program, node: Node) -> float:
    border = program.border.get(node, torch.zeros(()))
    flat = border.reshape(-1).to(torch.float64)
    if not bool((flat == flat[0]).all()):
        raise UnsupportedOpError(f"{node.where}: a border that differs from channel to channel is not understood.")
    return float(flat[0])
