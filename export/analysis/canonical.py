"""Demand, backward: which positions of every value are read; and from it one common canvas for all of them.

A value that depends on pixels is moved so that the end of its demanded range is the end of the canvas: it is evaluated
as late as its readers allow. Afterwards every such value lives on the same `H x W` canvas, every read outside of it
finds the value's one border constant, and only offsets are left. Taps that never land inside become part of the bias.
A value of a stride is moved by whole strides, so that the pixels at which it is live are multiples of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.analysis.demand import Demand, constant_like, demand, inside, overrun, turns
from pixelsnail_infer.export.evaluation.whole import full_value
from pixelsnail_infer.export.evaluation.windows import window
from pixelsnail_infer.export.fields import TAPPED, Edge, Node, Offset, phase_of, reads, topological
from pixelsnail_infer.export.lattice import cell, cells, floored, times

__all__ = ["Canonical", "canonical"]

ELSEWHERE = (*TAPPED, "merge")  # nodes whose edges keep their offsets


@dataclass(slots=True)
class Canonical:
    """The network on one canvas. `shift[node]` is where a pixel-dependent node's own frame was: it holds, at pixel
    (i, j), its old value at pixel (i, j) + shift; `border[node]` is what reads outside the canvas find."""

    output: Node
    shape: tuple[int, int]
    shift: dict[Node, Offset]
    border: dict[Node, torch.Tensor]
    guard: dict[Node, Offset]  # rows and columns below which the node itself must yield its border


def canonical(output: Node, shape: tuple[int, int]) -> Canonical:
    """Rewrite the normal form below `output` onto the canvas `shape`."""
    order = topological([output])
    return _Builder(shape, demand(order, output, shape), order).build(order, output)


class _Builder:
    def __init__(self, shape: tuple[int, int], asked: Demand, order: list[Node]) -> None:
        self.shape, self.boxes = shape, asked.boxes
        self.shifts = {node: asked.shift(node) for node in order if node.pixel and node in asked.boxes}
        self.asked = asked
        self.new: dict[Node, Node] = {}
        self.copies: dict[tuple[Node, bytes], Node] = {}
        self.tables: dict[tuple[Node, Offset], Node] = {}
        self.result = Canonical(None, shape, {}, {}, {})  # type: ignore[arg-type]

    def build(self, order: list[Node], output: Node) -> Canonical:
        for node in order:
            if node.frame is not None and node not in self.boxes:
                continue  # never demanded
            if not node.pixel:
                self.new[node] = self._fixed(node)
                continue
            clone = Node(node.op, [], cells(self.shape, node.stride), node.channels, node.dtype, node.where, node.keys,
                         node.attrs, True, node.condition, node.stride)
            clone.inputs = [self._edge(node, edge) for edge in node.inputs]
            if node.op == "merge":
                self._turn(clone, self.shifts[node])
            self.new[node] = self._folded(clone) if node is not output else clone
            self.result.shift[self.new[node]] = self.shifts[node]
        self.result.output = self.new[output]
        return self.result

    def _fixed(self, node: Node) -> Node:
        """A node that sees no pixels; where its taps were pruned it may see no conditions any more either."""
        if node.op in ("const", "input"):
            return node
        for edge in node.inputs:
            edge.source = self.new.get(edge.source, edge.source)
        node.condition = any(edge.source.condition for edge in node.inputs)
        return node if node.condition else _value(node)

    def _folded(self, node: Node) -> Node:
        """A node that sees no pixels any more, all of its reads being outside, as what it has become."""
        if node.op == "input" or any(edge.source.pixel for edge in node.inputs):
            return node
        node.pixel, node.condition = False, any(edge.source.condition for edge in node.inputs)
        if not node.condition:
            return _value(node)
        if not node.keys and node.op != "merge" and all(edge.source.frame is None for edge in node.inputs):
            node.frame = None
        return node

    @staticmethod
    def _turn(node: Node, shift: Offset) -> None:
        """The inputs of a merge in the order of its phases on the canvas, each read at whole strides of its source."""
        (dy, dx), (fy, fx) = cell(shift, node.stride), node.attrs["factors"]
        node.inputs = [node.inputs[(a + dy) % fy * fx + (b + dx) % fx] for a in range(fy) for b in range(fx)]
        for edge in node.inputs:
            if edge.source.frame is not None:
                row, column = times(phase_of(node, edge), node.stride)
                edge.dy, edge.dx = floored((row + edge.dy, column + edge.dx), edge.source.stride)

    def _edge(self, node: Node, edge: Edge) -> Edge:
        source, own = edge.source, self.shifts[node]
        if edge.keys:
            return self._keys(node, edge)
        if not source.pixel:
            source = self.new.get(source, source)
        if source.frame is None:
            return Edge(source)
        if not source.pixel:
            offset = (edge.dy + own[0], edge.dx + own[1])
            if source.op == "const" and node.op not in ELSEWHERE:
                return Edge(self._table(source, offset, edge.border))
            return Edge(source, *offset, edge.border)
        if all(inside(node, edge, offset, self.boxes[node]) is None for offset in reads(node, edge)):
            border = edge.border if edge.border is not None else torch.zeros((), dtype=source.dtype)
            return Edge(constant_like(source, border.expand(source.channels)))
        other = self.shifts[source]
        if not self.new[source].pixel:
            known = self._begun(source, edge.border if self._outside(node, edge) else None, node.op)
            return self._edge(node, Edge(known, edge.dy - other[0], edge.dx - other[1], edge.border))
        target = self._bordered(source, edge) if self._outside(node, edge) else self.new[source]
        if overrun(node, edge, self.asked):
            raise UnsupportedOpError(f"{node.where} reads {source.where} behind its last row or column, which a reader "
                                     "with a stride needs before its block ends; that is not understood.")
        return Edge(target, edge.dy + own[0] - other[0], edge.dx + own[1] - other[1])

    def _begun(self, source: Node, border: torch.Tensor | None, reader: str) -> Node:
        """What `source`, which sees no pixels any more, has become, with the border where its frame has not begun; a
        vector laid out over positions where its reader has offsets."""
        node, (dy, dx) = self.new[source], cell(self.shifts[source], source.stride)
        frame = cells(self.shape, source.stride)
        laid_out = node.frame is None and (border is not None or reader in (*TAPPED, "key_dot"))
        if not laid_out and ((dy >= 0 and dx >= 0) or border is None):
            return node
        ones = [1] * len(node.channels)
        fill = torch.zeros(node.channels, dtype=node.dtype) if border is None else \
            border.to(node.dtype).expand(node.channels)
        begun = torch.zeros(*frame, *ones, dtype=torch.bool)
        begun[max(-dy, 0):, max(-dx, 0):] = True
        if node.op == "const":
            value = torch.where(begun, node.attrs["value"], fill)
            return Node("const", [], frame, node.channels, node.dtype, node.where, None, {"value": value},
                        stride=source.stride)
        mask = Node("const", [], frame, tuple(ones), torch.bool, node.where, None, {"value": begun},
                    stride=source.stride)
        return Node("map", [Edge(mask), Edge(node), Edge(constant_like(node, fill))], frame, node.channels, node.dtype,
                    node.where, None, {"fn": "where", "params": {}}, False, True, source.stride)

    def _keys(self, node: Node, edge: Edge) -> Edge:
        source, new = edge.source, self.new[edge.source]
        if source.pixel and (source.frame != self.shape or self.shifts[source] != (0, 0)):
            raise UnsupportedOpError(f"{node.where} attends to keys on a {source.frame} grid; the canvas is "
                                     f"{self.shape}.")
        if edge.pool is None or new.pixel:
            return Edge(new, keys=True, pool=edge.pool)
        (h, w), (py, px) = new.frame, edge.pool  # type: ignore[misc]
        blocks = Node("pool", [Edge(new)], (h // py, w // px), new.channels, new.dtype, new.where, None,
                      {"blocks": edge.pool}, False, new.condition)
        return Edge(_value(blocks) if new.op == "const" else blocks, keys=True)

    def _table(self, source: Node, offset: Offset, border: torch.Tensor | None) -> Node:
        """A positional constant as the canvas sees it from `offset`."""
        frame = cells(self.shape, source.stride)
        if offset == (0, 0) and source.frame == frame:
            return source
        key = (source, offset)
        if key not in self.tables:
            value = window(source.attrs["value"][None], cell(offset, source.stride), frame, border)[0]
            self.tables[key] = Node("const", [], frame, source.channels, source.dtype, source.where, source.keys,
                                    {"value": value}, stride=source.stride)
        return self.tables[key]

    def _outside(self, node: Node, edge: Edge) -> bool:
        if edge.border is None:
            return False
        box = self.boxes[node]
        return any(inside(node, edge, offset, box) != turns(node, edge, box) for offset in reads(node, edge))

    def _bordered(self, source: Node, edge: Edge) -> Node:
        """The source, or a copy of it where another reader finds another border."""
        node, border = self.new[source], edge.border
        assert border is not None
        known = self.result.border.get(node)
        if known is not None and not _equal(known, border, source.channels):
            key = (source, str(border.tolist()).encode())
            if key not in self.copies:
                copy = Node("map", [Edge(node)], node.frame, node.channels, node.dtype, node.where, None,
                            {"fn": "identity"}, True, node.condition, node.stride)
                self.copies[key] = copy
                self.result.shift[copy] = self.shifts[source]
            node = self.copies[key]
        self.result.border[node] = border
        dy, dx = self.shifts[source]
        if dy < 0 or dx < 0:
            self.result.guard[node] = (max(-dy, 0), max(-dx, 0))
        return node


def _value(node: Node) -> Node:
    """A node of constants as the constant that it is."""
    value = full_value(node, {e.source: full_value(e.source, {}, {}) for e in node.inputs}, {})[0]
    return Node("const", [], node.frame, node.channels, node.dtype, node.where, node.keys, {"value": value},
                stride=node.stride)


def _equal(a: torch.Tensor, b: torch.Tensor, channels: tuple[int, ...]) -> bool:
    return torch.equal(a.expand(channels), b.expand(channels))
