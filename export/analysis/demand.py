"""Demand, backward: at which of its positions every value is read, and how late it may be computed.

Boxes count positions, ends and shifts are pixels. A value of a stride is read at pixels of its own lattice; where its
reader is coarser, it must be there when the reader is, which is earlier than the end of the reader's block of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.fields import Edge, Node, Offset, phase_of, reads
from pixelsnail_infer.export.lattice import ceiled, cells, times

__all__ = ["Demand", "constant_like", "demand", "inside", "overrun", "turns"]

Box = tuple[int, int, int, int]  # first row, end row, first column, end column


@dataclass(slots=True)
class Demand:
    """`boxes[node]`: the positions of a node that are read, as one box. `shift(node)`: by how many pixels a node that
    depends on pixels is moved, so that it is computed as late as its readers allow."""

    shape: tuple[int, int]
    boxes: dict[Node, Box] = field(default_factory=dict)
    ends: dict[Node, Offset] = field(default_factory=dict)  # the pixels behind the last one that has to be there

    def shift(self, node: Node) -> Offset:
        """Raises `UnsupportedOpError` where a value would be computed before the first pixel, or behind its frame."""
        (height, width), (sy, sx) = self.shape, node.stride
        box, (bottom, right) = self.boxes[node], self.ends[node]
        dy, dx = bottom - height, right - width
        if box[0] * sy < dy or box[2] * sx < dx:
            size = cells(self.shape, node.stride)
            raise UnsupportedOpError(
                f"{node.where} is read at more than {size[0]}x{size[1]} positions (rows {box[0]}..{box[1] - 1}, "
                f"columns {box[2]}..{box[3] - 1}): it would have to be computed before the first pixel, which is not "
                "understood.")
        return dy, dx

    def _ask(self, source: Node, box: Box, end: Offset) -> None:
        old, last = self.boxes.get(source, box), self.ends.get(source, end)
        self.boxes[source] = min(old[0], box[0]), max(old[1], box[1]), min(old[2], box[2]), max(old[3], box[3])
        self.ends[source] = max(last[0], end[0]), max(last[1], end[1])

    def _ask_whole(self, source: Node) -> None:
        assert source.frame is not None
        self.boxes[source] = (0, source.frame[0], 0, source.frame[1])
        self.ends[source] = times(source.frame, source.stride)

    def _visit(self, node: Node) -> None:
        """Ask the sources of a node for what it reads of them."""
        if node.frame is not None and (node.op in ("input", "key_mix") or node.keys is not None):
            self._ask_whole(node)  # pixels and attention stay at their own position
        if node.frame is not None and node.pixel:
            _refuse_uneven(node, self.shape)
            self._settle(node)
        if node.op in ("linear", "lookup") and node.frame is not None:
            _prune(node, self.boxes[node])
        for edge in node.inputs:
            if edge.source.frame is None:
                continue
            if edge.keys or not edge.source.pixel or node.frame is None:
                self._ask_whole(edge.source)
                continue
            for offset in reads(node, edge):
                self._ask_at(node, edge, offset)

    def _settle(self, node: Node) -> None:
        """By whole strides, and not so early that the first position would be computed before the first pixel: what a
        coarser reader needs earlier than that must be known for the row as a whole."""
        (height, width), (sy, sx) = self.shape, node.stride
        top, bottom, left, right = self.boxes[node]
        end = ceiled(self.ends[node], node.stride)
        last = min(end[0], height + sy * top), min(end[1], width + sx * left)
        self.ends[node] = max(last[0], sy * bottom), max(last[1], sx * right)

    def _ask_at(self, node: Node, edge: Edge, offset: Offset) -> None:
        own, found = turns(node, edge, self.boxes[node]), inside(node, edge, offset, self.boxes[node])
        if own is not None and found is not None:
            (bottom, right), (sy, sx), (dy, dx) = self.ends[node], node.stride, offset
            end = bottom + dy - sy * (own[1] - found[1]), right + dx - sx * (own[3] - found[3])
            self._ask(edge.source, _landed(node, edge, offset, found), end)


def demand(order: list[Node], output: Node, shape: tuple[int, int]) -> Demand:
    """What is read of every node of `order` for `output` to be known at all positions. Taps that never land inside
    become part of the bias."""
    result = Demand(shape)
    result._ask_whole(output)
    for node in reversed(order):
        if node in result.boxes or node.frame is None:
            result._visit(node)
    return result


def turns(node: Node, edge: Edge, box: Box) -> Box | None:
    """The positions of a box at which the node reads this edge: of a merge those of one phase, else all."""
    if node.op != "merge":
        return box
    found: list[int] = []
    for first, end, phase, factor in zip(box[::2], box[1::2], phase_of(node, edge), node.attrs["factors"], strict=True):
        found += [first + (phase - first) % factor, end - (end - 1 - phase) % factor]
    return (found[0], found[1], found[2], found[3]) if found[0] < found[1] and found[2] < found[3] else None


def inside(node: Node, edge: Edge, offset: Offset, box: Box) -> Box | None:
    """Those of the `turns` at which a read at `offset`, one of `reads`, lands in the source's frame."""
    size, own, found = times(edge.source.frame or (1, 1), edge.source.stride), turns(node, edge, box), []
    for first, end, step, by, pixels in zip(box[::2], box[1::2], node.stride, offset, size, strict=True):
        found += [max(first, -(by // step)), min(end, (pixels - 1 - by) // step + 1)]
    if own is None or found[0] >= found[1] or found[2] >= found[3]:
        return None
    return turns(node, edge, (found[0], found[1], found[2], found[3]))


def overrun(node: Node, edge: Edge, asked: Demand) -> bool:
    """Whether a read behind the source's frame finds a pixel of the canvas at which the source is computed."""
    source, box = edge.source, asked.boxes[node]
    size = times(source.frame or (1, 1), source.stride)
    late = [axis for axis in (0, 1) if asked.ends[source][axis] > size[axis]]
    own = turns(node, edge, box)
    return own is not None and any(node.stride[axis] * (own[2 * axis + 1] - 1) + offset[axis] >= size[axis]
                                   for offset in reads(node, edge) for axis in late)


def _landed(node: Node, edge: Edge, offset: Offset, box: Box) -> Box:
    """The source's positions that are read from a box of `inside`."""
    found: list[int] = []
    for first, end, step, by, own in zip(box[::2], box[1::2], node.stride, offset, edge.source.stride, strict=True):
        found += [(step * first + by) // own, (step * (end - 1) + by) // own + 1]
    return found[0], found[1], found[2], found[3]


def _refuse_uneven(node: Node, shape: tuple[int, int]) -> None:
    if times(cells(shape, node.stride), node.stride) != shape:
        raise UnsupportedOpError(
            f"{node.where} gives a value for every {node.stride[0]} rows and {node.stride[1]} columns of a canvas of "
            f"{shape[0]}x{shape[1]} pixels; expected a canvas that is a multiple of that in both directions. Take "
            "another canvas, or pad it.")


def _prune(node: Node, box: Box) -> None:
    """Move taps that never land inside their source into the bias."""
    (edge,) = node.inputs
    source = edge.source
    if source.frame is None:
        return
    kept = {}
    bias = node.attrs["bias"]
    for (offset, tap), read in zip(node.attrs["taps"].items(), reads(node, edge), strict=True):
        if inside(node, edge, read, box) is not None:
            kept[offset] = tap
            continue
        border = edge.border if edge.border is not None else torch.zeros((), dtype=source.dtype)
        extra = tap[int(border)] if node.op == "lookup" else tap @ border.to(tap.dtype).expand(tap.shape[1])
        if bool((extra != 0).any()):
            bias = extra if bias is None else bias + extra
    if not kept:  # nothing but borders: the bias alone
        value = bias if bias is not None else torch.zeros(node.channels, dtype=node.dtype)
        node.op, node.attrs = "map", {"fn": "identity", "params": {}}
        node.inputs = [Edge(constant_like(node, value.expand(node.channels)))]
        return
    node.attrs = {**node.attrs, "taps": kept, "bias": bias}


def constant_like(like: Node, value: torch.Tensor) -> Node:
    """A vector that stands for `like` wherever only its border is seen."""
    return Node("const", [], None, like.channels, like.dtype, like.where, attrs={"value": value.to(like.dtype)})
