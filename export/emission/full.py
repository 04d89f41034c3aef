"""A line scope over all positions of a frame at once: for the score graph and the prologue."""

from __future__ import annotations

import math

import torch

from pixelsnail_infer.export.analysis.prologue import Prologue
from pixelsnail_infer.export.analysis.stages import Program, Stage
from pixelsnail_infer.export.emission.emit import Scope
from pixelsnail_infer.export.emission.onnx_graph import GraphWriter
from pixelsnail_infer.export.fields import Edge, Node, reads

__all__ = ["FullScope", "write_prologue"]


class FullScope(Scope):
    """Values are `[B, h*w, *channels]` of their own frames; `prologue` None means that conditions are graph inputs."""

    lead = 2

    def __init__(self, program: Program, prologue: Prologue | None, writer: GraphWriter) -> None:
        super().__init__(program, writer)
        self.prologue = prologue
        self.count = math.prod(program.shape)

    def map(self, node: Node) -> str:
        """The value with rows and columns apart, `[B, h, w, *channels]`."""
        h, w = node.frame  # type: ignore[misc]
        return self.writer.op("Reshape", self.value(node), self.writer.constant([0, h, w, *node.channels]))

    def flat(self, value: str, node: Node) -> str:
        """`[B, h, w, *channels]` as `[B, h*w, *channels]`."""
        return self.writer.op("Reshape", value, self.writer.constant([0, math.prod(node.frame or ()), *node.channels]))

    def queries(self, node: Node) -> int:
        return math.prod(node.frame or (1,))

    def positions(self, frame: tuple[int, int]) -> str:
        return self.writer.constant(torch.arange(math.prod(frame)).view(1, 1, -1, 1))

    def placed(self, node: Node) -> str:
        return self.writer.constant(node.attrs["value"].flatten(0, 1)[None])

    def source(self, node: Node) -> str:
        if self.prologue is not None and node in self.prologue.crossing:
            value = self.prologue.value(self.writer, node)
            return self.flat(value, node) if node.frame else value
        if node.op == "input":
            return self._input(node)
        if node.op == "spread":
            (edge,) = node.inputs
            rank = len(node.channels)
            perm = [0, 1 + rank, 2 + rank, *range(1, 1 + rank)]
            return self.flat(self.writer.op("Transpose", self.value(edge.source), perm=perm), node)
        if node.op == "upsample":
            return self._upsampled(node)
        if node.op == "pool":
            return self.pooled(self.value(node.inputs[0].source), node.inputs[0].source, node.attrs["blocks"])
        raise ValueError(f"{node} is not computed by this graph")

    def _input(self, node: Node) -> str:
        w, name = self.writer, node.attrs["name"]
        dtype = w.precision if node.dtype.is_floating_point else "int64"
        if node.pixel:  # images have their channels last, conditions first
            return self.flat(w.input(name, dtype, ["B", *(node.frame or ()), *node.channels]), node)
        value = w.input(name, dtype, ["B", *node.channels, *(node.frame or ())])
        if node.frame is None:
            return value
        rank = len(node.channels)
        if rank:
            value = w.op("Transpose", value, perm=[0, 1 + rank, 2 + rank, *range(1, 1 + rank)])
        return self.flat(value, node)

    def _upsampled(self, node: Node) -> str:
        w, (fy, fx), (h, width) = self.writer, node.attrs["factors"], node.frame  # type: ignore[misc]
        value = self.map(node.inputs[0].source)
        value = w.op("Gather", value, w.constant(torch.arange(h) // fy), axis=1)
        return self.flat(w.op("Gather", value, w.constant(torch.arange(width) // fx), axis=2), node)

    def keys(self, edge: Edge) -> str:
        value = self.pooled(self.value(edge.source), edge.source, edge.pool) if edge.pool else self.value(edge.source)
        return self.headed(value, edge.source)

    def headed(self, value: str, node: Node) -> str:
        """`[B, keys, *channels]` as `[B, heads, keys, d]`."""
        w = self.writer
        heads = [math.prod(node.channels[:-1]), node.channels[-1]] if node.channels else [1, 1]
        return w.op("Transpose", w.op("Reshape", value, w.constant([0, 0, *heads])), perm=[0, 2, 1, 3])

    def pooled(self, value: str, node: Node, pool: tuple[int, int]) -> str:
        """Maxima of blocks of `value [B, h*w, *channels]`: `[B, blocks, *channels]`."""
        w, (h, width), (py, px) = self.writer, node.frame, pool  # type: ignore[misc]
        apart = w.op("Reshape", value, w.constant([0, h // py, py, width // px, px * math.prod(node.channels)]))
        apart = w.op("ReduceMax", apart, w.constant([2]), keepdims=0)  # [B, h/py, w/px, px * C]
        apart = w.op("Reshape", apart, w.constant([0, h // py * (width // px), px, math.prod(node.channels)]))
        apart = w.op("ReduceMax", apart, w.constant([2]), keepdims=0)
        return w.op("Reshape", apart, w.constant([0, 0, *node.channels]))

    def guard(self, node: Node, value: str) -> str:
        w, (top, left), (h, width) = self.writer, self.program.guard[node], self.program.shape
        inside = (torch.arange(h)[:, None] >= top) & (torch.arange(width)[None] >= left)
        mask = inside.reshape(1, -1, *(1,) * len(node.channels))
        return w.where(w.constant(mask), value, w.constant(self.border(node).expand(node.channels)), node.dtype)

    def broadcasts(self, source: Node, node: Node) -> bool:
        return source.op == "const" or super().broadcasts(source, node)

    def border(self, node: Node) -> torch.Tensor:
        """What reads outside a canvas value's frame find."""
        return self.program.border.get(node, torch.zeros((), dtype=node.dtype)).to(node.dtype)

    def tapped(self, node: Node) -> str:
        (edge,) = node.inputs
        source = edge.source
        border = self.border(source) if source.pixel else edge.border
        border = torch.zeros((), dtype=source.dtype) if border is None else border.to(source.dtype)
        offsets = reads(node, edge)
        if node.op == "linear" and offsets == [(0, 0)] and source.frame == node.frame:
            return self.dense(self.value(source), *self.single(node))
        single = self.writer.precision == "float32"  # ONNX Runtime has no Conv for doubles
        uniform = bool((border == border.reshape(-1)[0]).all())
        if single and uniform and node.op == "linear" and len(source.channels) == 1:
            return self._convolution(node, source, offsets, float(border.reshape(-1)[0]))
        total = ""
        for offset, tap in zip(offsets, node.attrs.get("taps", {None: None}).values(), strict=True):
            part = self._seen(node, source, offset, border)
            if node.op == "lookup":
                part = self.writer.op("Gather", self.writer.constant(tap), part, axis=0)
            elif node.op == "linear":
                part = self.dense(part, tap.T, None)
            total = self.writer.op("Add", total, part) if total else part
        bias = node.attrs.get("bias")
        return total if bias is None else self.writer.op("Add", total, self.writer.constant(bias))

    def _seen(self, node: Node, source: Node, offset: tuple[int, int], border: torch.Tensor) -> str:
        """The source through a window on `node`'s frame, `[B, h*w, *channels]`."""
        w, (dy, dx), (h, width), (fh, fw) = self.writer, offset, source.frame, node.frame  # type: ignore[misc]
        value = self.map(source)
        rank = len(source.channels)
        low, high = [-dy, -dx], [fh + dy - h, fw + dx - width]
        if any((*low, *high)):
            fill = border.expand(source.channels)
            pads = [0, *low, *[0] * rank, 0, *high, *[0] * rank]
            if bool((fill == fill.reshape(-1)[0]).all()):
                value = w.op("Pad", value, w.constant(pads), w.constant(fill.reshape(-1)[0]), mode="constant")
            else:
                kept = w.op("Sub", value, w.constant(fill))
                value = w.op("Add", w.op("Pad", kept, w.constant(pads), mode="constant"), w.constant(fill))
        return w.op("Reshape", value, w.constant([0, fh * fw, *source.channels]))

    def _convolution(self, node: Node, source: Node, offsets: list[tuple[int, int]], border: float) -> str:
        """All taps as one Conv over the box that they span."""
        w, (h, width), (fh, fw) = self.writer, source.frame, node.frame  # type: ignore[misc]
        rows, columns = [dy for dy, _ in offsets], [dx for _, dx in offsets]
        top, left = min(rows), min(columns)
        taps = list(node.attrs["taps"].values())
        kernel = taps[0].new_zeros(*taps[0].shape, max(rows) - top + 1, max(columns) - left + 1)
        for (dy, dx), tap in zip(offsets, taps, strict=True):
            kernel[:, :, dy - top, dx - left] = tap
        low, high = [-top, -left], [fh - 1 + max(rows) - (h - 1), fw - 1 + max(columns) - (width - 1)]
        image = w.op("Transpose", self.map(source), perm=[0, 3, 1, 2])
        pads = [*low, *high]
        if border != 0 or min(pads) < 0:
            image = w.op("Pad", image, w.constant([0, 0, *low, 0, 0, *high]), w.constant(border), mode="constant")
            pads = [0, 0, 0, 0]
        bias = node.attrs["bias"]
        extra = [] if bias is None else [w.constant(bias)]
        out = w.op("Conv", image, w.constant(kernel), *extra, pads=pads)
        return self.flat(w.op("Transpose", out, perm=[0, 2, 3, 1]), node)


def write_prologue(program: Program, prologue: Prologue, writer: GraphWriter) -> None:
    """Fill `writer` with the prologue graph."""
    scope = FullScope(program, None, writer)
    scope.emit(program.of(Stage.PROLOGUE))
    for node in prologue.crossing:
        value = scope.map(node) if node.frame else scope.value(node)
        if node.op == "input":
            value = writer.op("Identity", value)
        writer.output(prologue.name(node), value, prologue.dtype(node, writer.precision), ["B", *prologue.shape(node)])
