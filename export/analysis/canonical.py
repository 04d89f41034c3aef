"""Demand, backward: which positions of every value are read; and from it one common canvas for all of them.

A value that depends on pixels is moved so that the end of its demanded range is the end of the canvas: it is evaluated
as late as its readers allow. Afterwards every such value lives on the same `H x W` canvas, every read outside of it
finds the value's one border constant, and only offsets are left. Taps that never land inside become part of the bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.evaluation.whole import full_value
from pixelsnail_infer.export.evaluation.windows import window
from pixelsnail_infer.export.fields import TAPPED, Edge, Node, Offset, reads, topological

__all__ = ["Canonical", "canonical"]

Box = tuple[int, int, int, int]  # first row, end row, first column, end column


@dataclass(slots=True)
class Canonical:
    """The network on one canvas. `shift[node]` is where a pixel-dependent node's own frame was: it holds, at (i, j),
    its old value at (i, j) + shift; `border[node]` is what reads outside the canvas find."""

    output: Node
    shape: tuple[int, int]
    shift: dict[Node, Offset]
    border: dict[Node, torch.Tensor]
    guard: dict[Node, Offset]  # rows and columns below which the node itself must yield its border


def canonical(output: Node, shape: tuple[int, int]) -> Canonical:
    """Rewrite the normal form below `output` onto the canvas `shape`."""
    order = topological([output])
    boxes = _demand(order, output)
    shifts = {node: _shift(node, boxes[node], shape) for node in order if node.pixel and node in boxes}
    return _Builder(shape, boxes, shifts).build(order, output)


def _demand(order: list[Node], output: Node) -> dict[Node, Box]:
    boxes: dict[Node, Box] = {output: (0, output.frame[0], 0, output.frame[1])}  # type: ignore[index]
    for node in reversed(order):
        if node not in boxes and node.frame is not None:
            continue
        if node.frame is not None and (node.op in ("input", "key_mix") or node.keys is not None):
            boxes[node] = (0, node.frame[0], 0, node.frame[1])  # pixels and attention stay at their own position
        if node.op in ("linear", "lookup") and node.frame is not None:
            _prune(node, boxes[node])
        for edge in node.inputs:
            source = edge.source
            if source.frame is None:
                continue
            everything = (0, source.frame[0], 0, source.frame[1])
            if edge.keys or not source.pixel or node.frame is None:
                boxes[source] = everything
                continue
            for offset in reads(node, edge):
                found = _clip(_moved(boxes[node], offset), source.frame)
                if found is not None:
                    boxes[source] = _union(boxes[source], found) if source in boxes else found
    return boxes


def _moved(box: Box, offset: Offset) -> Box:
    return box[0] + offset[0], box[1] + offset[0], box[2] + offset[1], box[3] + offset[1]


def _clip(box: Box, frame: tuple[int, int]) -> Box | None:
    r0, r1, c0, c1 = max(box[0], 0), min(box[1], frame[0]), max(box[2], 0), min(box[3], frame[1])
    return (r0, r1, c0, c1) if r0 < r1 and c0 < c1 else None


def _union(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), max(a[3], b[3])


def _prune(node: Node, box: Box) -> None:
    """Move taps that never land inside their source into the bias."""
    (edge,) = node.inputs
    source = edge.source
    if source.frame is None:
        return
    kept = {}
    bias = node.attrs["bias"]
    for offset, tap in node.attrs["taps"].items():
        if _clip(_moved(box, (edge.dy + offset[0], edge.dx + offset[1])), source.frame) is not None:
            kept[offset] = tap
            continue
        border = edge.border if edge.border is not None else torch.zeros((), dtype=source.dtype)
        extra = tap[int(border)] if node.op == "lookup" else tap @ border.to(tap.dtype).expand(tap.shape[1])
        if bool((extra != 0).any()):
            bias = extra if bias is None else bias + extra
    if not kept:  # nothing but borders: the bias alone
        value = bias if bias is not None else torch.zeros(node.channels, dtype=node.dtype)
        node.op, node.attrs = "map", {"fn": "identity", "params": {}}
        node.inputs = [Edge(_constant(node, value.expand(node.channels)))]
        return
    node.attrs = {**node.attrs, "taps": kept, "bias": bias}


def _constant(like: Node, value: torch.Tensor) -> Node:
    """A vector that stands for `like` wherever only its border is seen."""
    return Node("const", [], None, like.channels, like.dtype, like.where, attrs={"value": value.to(like.dtype)})


def _shift(node: Node, box: Box, shape: tuple[int, int]) -> Offset:
    dy, dx = box[1] - shape[0], box[3] - shape[1]
    if box[0] < dy or box[2] < dx:
        raise UnsupportedOpError(
            f"{node.where} is read at more than {shape[0]}x{shape[1]} positions (rows {box[0]}..{box[1] - 1}, columns "
            f"{box[2]}..{box[3] - 1}): it would have to be computed before the first pixel, which is not understood.")
    return dy, dx


class _Builder:
    def __init__(self, shape: tuple[int, int], boxes: dict[Node, Box], shifts: dict[Node, Offset]) -> None:
        self.shape, self.boxes, self.shifts = shape, boxes, shifts
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
            clone = Node(node.op, [], self.shape, node.channels, node.dtype, node.where, node.keys, node.attrs,
                         True, node.condition)
            clone.inputs = [self._edge(node, edge) for edge in node.inputs]
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
        if not node.keys and all(edge.source.frame is None for edge in node.inputs):
            node.frame = None
        return node

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
            if source.op == "const" and node.op not in TAPPED:
                return Edge(self._table(source, offset, edge.border))
            return Edge(source, *offset, edge.border)
        if all(_clip(_moved(self.boxes[node], offset), source.frame) is None for offset in reads(node, edge)):
            border = edge.border if edge.border is not None else torch.zeros((), dtype=source.dtype)
            return Edge(_constant(source, border.expand(source.channels)))
        other = self.shifts[source]
        if not self.new[source].pixel:
            known = self._begun(source, edge.border if self._outside(node, edge) else None, node.op)
            return self._edge(node, Edge(known, edge.dy - other[0], edge.dx - other[1], edge.border))
        target = self._bordered(source, edge) if self._outside(node, edge) else self.new[source]
        return Edge(target, edge.dy + own[0] - other[0], edge.dx + own[1] - other[1])

    def _begun(self, source: Node, border: torch.Tensor | None, reader: str) -> Node:
        """What `source`, which sees no pixels any more, has become, with the border where its frame has not begun; a
        vector laid out over positions where its reader has offsets."""
        node, (dy, dx) = self.new[source], self.shifts[source]
        laid_out = node.frame is None and (border is not None or reader in (*TAPPED, "key_dot"))
        if not laid_out and ((dy >= 0 and dx >= 0) or border is None):
            return node
        ones = [1] * len(node.channels)
        fill = torch.zeros(node.channels, dtype=node.dtype) if border is None else \
            border.to(node.dtype).expand(node.channels)
        begun = torch.zeros(*self.shape, *ones, dtype=torch.bool)
        begun[max(-dy, 0):, max(-dx, 0):] = True
        if node.op == "const":
            value = torch.where(begun, node.attrs["value"], fill)
            return Node("const", [], self.shape, node.channels, node.dtype, node.where, None, {"value": value})
        mask = Node("const", [], self.shape, tuple(ones), torch.bool, node.where, None, {"value": begun})
        return Node("map", [Edge(mask), Edge(node), Edge(_constant(node, fill))], self.shape, node.channels, node.dtype,
                    node.where, None, {"fn": "where", "params": {}}, False, True)

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
        if offset == (0, 0) and source.frame == self.shape:
            return source
        key = (source, offset)
        if key not in self.tables:
            value = window(source.attrs["value"][None], offset, self.shape, border)[0]
            self.tables[key] = Node("const", [], self.shape, source.channels, source.dtype, source.where, source.keys,
                                    {"value": value})
        return self.tables[key]

    def _outside(self, node: Node, edge: Edge) -> bool:
        if edge.border is None:
            return False
        frame, box = edge.source.frame, self.boxes[node]
        return any(_clip(_moved(box, offset), frame) != _moved(box, offset)  # type: ignore[arg-type]
                   for offset in reads(node, edge))

    def _bordered(self, source: Node, edge: Edge) -> Node:
        """The source, or a copy of it where another reader finds another border."""
        node, border = self.new[source], edge.border
        assert border is not None
        known = self.result.border.get(node)
        if known is not None and not _equal(known, border, source.channels):
            key = (source, str(border.tolist()).encode())
            if key not in self.copies:
                copy = Node("map", [Edge(node)], self.shape, node.channels, node.dtype, node.where, None,
                            {"fn": "identity"}, True, node.condition)
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
    return Node("const", [], node.frame, node.channels, node.dtype, node.where, node.keys, {"value": value})


def _equal(a: torch.Tensor, b: torch.Tensor, channels: tuple[int, ...]) -> bool:
    return torch.equal(a.expand(channels), b.expand(channels))
