"""A line scope over all positions of a frame at once: for the score graph and the prologue."""

from __future__ import annotations

import math

import torch

from pixelsnail_infer.export.analysis.prologue import Prologue
from pixelsnail_infer.export.analysis.stages import Program, Stage
from pixelsnail_infer.export.emission.builder import GraphBuilder, kind_of
from pixelsnail_infer.export.emission.crossing import crosses_as, crossing
from pixelsnail_infer.export.emission.graph import Kind, Value
from pixelsnail_infer.export.emission.scope import Scope
from pixelsnail_infer.export.fields import Edge, Node, phase_of, reads
from pixelsnail_infer.export.lattice import cell, times

__all__ = ["FullScope", "emit_prologue"]


class FullScope(Scope):
    """Values are `[B, h*w, *channels]` of their own frames; `prologue` None means that conditions are graph inputs."""

    lead = 2

    def __init__(self, program: Program, prologue: Prologue | None, graph: GraphBuilder) -> None:
        super().__init__(program, graph)
        self.prologue = prologue
        self.count = math.prod(program.shape)

    def map(self, node: Node) -> Value:
        """The value with rows and columns apart, `[B, h, w, *channels]`."""
        h, w = node.frame  # type: ignore[misc]
        return self.graph.reshape(self.value(node), [0, h, w, *node.channels])

    def flat(self, value: Value, node: Node) -> Value:
        """`[B, h, w, *channels]` as `[B, h*w, *channels]`."""
        return self.graph.reshape(value, [0, math.prod(node.frame or ()), *node.channels])

    def queries(self, node: Node) -> int:
        return math.prod(node.frame or (1,))

    def positions(self, frame: tuple[int, int]) -> Value:
        return self.graph.constant(torch.arange(math.prod(frame)).view(1, 1, -1, 1))

    def placed(self, node: Node, like: Kind = "float") -> Value:
        return self.graph.constant(node.attrs["value"].flatten(0, 1)[None], like)

    def source(self, node: Node) -> Value:
        if self.prologue is not None and node in self.prologue.crossing:
            value = crossing(self.graph, self.prologue, node)
            return self.flat(value, node) if node.frame else value
        if node.op == "input":
            return self._input(node)
        if node.op == "spread":
            (edge,) = node.inputs
            return self.flat(self._channels_last(self.value(edge.source), node), node)
        if node.op == "upsample":
            return self._upsampled(node)
        if node.op == "tokens":
            return self._tokens(node)
        if node.op == "pool":
            return self.pooled(self.value(node.inputs[0].source), node.inputs[0].source, node.attrs["blocks"])
        raise ValueError(f"{node} is not computed by this graph")

    def _input(self, node: Node) -> Value:
        g, name, kind = self.graph, node.attrs["name"], kind_of(node.dtype)
        kind = g.wide if kind == "float" else kind
        if node.pixel:  # images have their channels last, conditions first
            return self.flat(g.input(name, kind, ["B", *(node.frame or ()), *node.channels]), node)
        value = g.input(name, kind, ["B", *node.channels, *(node.frame or ())])
        if node.frame is None:
            return value
        return self.flat(self._channels_last(value, node) if node.channels else value, node)

    def _channels_last(self, value: Value, node: Node) -> Value:
        """`[B, *channels, h, w]` as `[B, h, w, *channels]`."""
        rank = len(node.channels)
        return self.graph.transpose(value, [0, 1 + rank, 2 + rank, *range(1, 1 + rank)])

    def _tokens(self, node: Node) -> Value:
        """Vectors and maps one after the other, `[B, tokens, *channels]`."""
        g, sources = self.graph, [edge.source for edge in node.inputs]
        made = [self.value(one) for one in sources if one.op != "const"]
        parts = []
        for source in sources:
            value = self.value(source) if source.op != "const" else \
                g.expand(self.placed(source), [math.prod(source.frame or ()), *source.channels], made[0], 1)
            parts.append(value if source.frame else g.unsqueeze(value, 1))
        return g.concat(parts, 1)

    def _upsampled(self, node: Node) -> Value:
        g, (fy, fx), (h, width) = self.graph, node.attrs["factors"], node.frame  # type: ignore[misc]
        value = self.map(node.inputs[0].source)
        value = g.gather(value, torch.arange(h) // fy, 1)
        return self.flat(g.gather(value, torch.arange(width) // fx, 2), node)

    def keys(self, edge: Edge) -> Value:
        value = self.pooled(self.value(edge.source), edge.source, edge.pool) if edge.pool else self.value(edge.source)
        return self.headed(value, edge.source)

    def headed(self, value: Value, node: Node) -> Value:
        """`[B, keys, *channels]` as `[B, heads, keys, d]`."""
        heads = [math.prod(node.channels[:-1]), node.channels[-1]] if node.channels else [1, 1]
        return self.graph.transpose(self.graph.reshape(value, [0, 0, *heads]), [0, 2, 1, 3])

    def pooled(self, value: Value, node: Node, pool: tuple[int, int]) -> Value:
        """Maxima of blocks of `value [B, h*w, *channels]`: `[B, blocks, *channels]`."""
        g, (h, width), (py, px) = self.graph, node.frame, pool  # type: ignore[misc]
        apart = g.reshape(value, [0, h // py, py, width // px, px * math.prod(node.channels)])
        apart = g.reduce("max", apart, 2)  # [B, h/py, w/px, px * C]
        apart = g.reshape(apart, [0, h // py * (width // px), px, math.prod(node.channels)])
        return g.reshape(g.reduce("max", apart, 2), [0, 0, *node.channels])

    def guard(self, node: Node, value: Value) -> Value:
        g, (top, left), (h, width) = self.graph, self.program.guard[node], self.program.shape
        rows, columns = torch.arange(0, h, node.stride[0]), torch.arange(0, width, node.stride[1])
        inside = (rows[:, None] >= top) & (columns[None] >= left)
        mask = inside.reshape(1, -1, *(1,) * len(node.channels))
        return g.where(mask, value, self.border(node).expand(node.channels))

    def merged(self, node: Node) -> Value:
        g, (h, width), (fy, fx) = self.graph, node.frame, node.attrs["factors"]  # type: ignore[misc]
        rows, columns = -(-h // fy), -(-width // fx)
        parts = [g.unsqueeze(self._turns(edge, node, (rows, columns)), 3) for edge in node.inputs]
        lines = [g.unsqueeze(g.concat(parts[start:start + fx], 3), 2) for start in range(0, len(parts), fx)]
        value = g.reshape(g.concat(lines, 2), [0, rows * fy, columns * fx, *node.channels])
        for axis, size, whole in ((1, h, rows * fy), (2, width, columns * fx)):
            value = g.slice(value, 0, size, axis) if size < whole else value
        return self.flat(value, node)

    def _turns(self, edge: Edge, node: Node, frame: tuple[int, int]) -> Value:
        """A phase of a merge wherever its turn is, `[B, *frame, *channels]`."""
        g, source = self.graph, edge.source
        value = self.operand(source, node)
        if source.frame is None or source.op == "const":
            like = next(self.value(one.source) for one in node.inputs if one.source.op != "const")
            value = g.expand(value, [math.prod(source.frame or frame), *node.channels], like, 1)
        if source.frame is None:
            return g.reshape(value, [0, *frame, *node.channels])
        (a, b), ((dy, dx),) = times(phase_of(node, edge), node.stride), reads(node, edge)
        first = cell((a + dy, b + dx), source.stride)
        border = self.border(source) if source.pixel or edge.border is None else edge.border.to(source.dtype)
        return self._window(g.reshape(value, [0, *source.frame, *node.channels]), source, first, frame, border)

    def broadcasts(self, source: Node, node: Node) -> bool:
        return source.op == "const" or super().broadcasts(source, node)

    def border(self, node: Node) -> torch.Tensor:
        """What reads outside a canvas value's frame find."""
        return self.program.border.get(node, torch.zeros((), dtype=node.dtype)).to(node.dtype)

    def tapped(self, node: Node) -> Value:
        (edge,) = node.inputs
        source = edge.source
        border = self.border(source) if source.pixel else edge.border
        border = torch.zeros((), dtype=source.dtype) if border is None else border.to(source.dtype)
        offsets = [cell(offset, source.stride) for offset in reads(node, edge)]
        if node.op == "linear" and offsets == [(0, 0)] and source.frame == node.frame and source.stride == node.stride:
            return self.multiplied(node, self.value(source), *self.single(node))
        uniform = bool((border == border.reshape(-1)[0]).all())
        if uniform and node.op == "linear" and len(source.channels) == 1 and node not in self.graph.scales:
            return self._convolution(node, source, offsets, float(border.reshape(-1)[0]))
        total: Value | None = None
        for offset, tap in zip(offsets, node.attrs.get("taps", {None: None}).values(), strict=True):
            part = self._seen(node, source, offset, border)
            if node.op == "lookup":
                part = self.graph.gather(tap, part, 0)
            elif node.op == "linear":
                part = self.multiplied(node, part, tap.T)
            total = part if total is None else self.graph.add(total, part)
        assert total is not None
        bias = node.attrs.get("bias")
        return total if bias is None else self.graph.add(total, bias)

    def _seen(self, node: Node, source: Node, offset: tuple[int, int], border: torch.Tensor) -> Value:
        """The source through a window on `node`'s frame, `[B, h*w, *channels]`; `offset` is in its own positions."""
        g, (fh, fw) = self.graph, node.frame  # type: ignore[misc]
        fy, fx = cell(node.stride, source.stride)
        value = self._window(self.map(source), source, offset, (fh * fy, fw * fx), border)
        for axis, count, every in ((1, fh, fy), (2, fw, fx)):
            value = g.gather(value, torch.arange(count) * every, axis) if every > 1 else value
        return g.reshape(value, [0, fh * fw, *source.channels])

    def _window(self, value: Value, source: Node, offset: tuple[int, int], frame: tuple[int, int], border: torch.Tensor
                ) -> Value:
        """`[B, *frame, *channels]` of the source's map from `offset` on, with the border around it."""
        g, (dy, dx), (h, width), (fh, fw) = self.graph, offset, source.frame, frame  # type: ignore[misc]
        rank = len(source.channels)
        low, high = [0, -dy, -dx, *[0] * rank], [0, fh + dy - h, fw + dx - width, *[0] * rank]
        if not any((*low, *high)):
            return value
        fill = border.expand(source.channels)
        if bool((fill == fill.reshape(-1)[0]).all()):
            return g.pad(value, low, high, fill.reshape(-1)[0].item())
        return g.add(g.pad(g.sub(value, fill), low, high), fill)

    def _convolution(self, node: Node, source: Node, offsets: list[tuple[int, int]], border: float) -> Value:
        """All taps as one convolution over the box that they span."""
        g, (h, width), (fh, fw) = self.graph, source.frame, node.frame  # type: ignore[misc]
        rows, columns = [dy for dy, _ in offsets], [dx for _, dx in offsets]
        top, left = min(rows), min(columns)
        taps = list(node.attrs["taps"].values())
        kernel = taps[0].new_zeros(*taps[0].shape, max(rows) - top + 1, max(columns) - left + 1)
        for (dy, dx), tap in zip(offsets, taps, strict=True):
            kernel[:, :, dy - top, dx - left] = tap
        every = cell(node.stride, source.stride)
        low, high = [-top, -left], [(fh - 1) * every[0] + max(rows) - (h - 1),
                                    (fw - 1) * every[1] + max(columns) - (width - 1)]
        image = g.transpose(self.rounding.factor(node, self.map(source)), [0, 3, 1, 2])
        if border != 0 or min(*low, *high) < 0:
            image = g.pad(image, [0, 0, *low], [0, 0, *high], border)
            low, high = [0, 0], [0, 0]
        bias = None if node.attrs["bias"] is None else g.constant(node.attrs["bias"], image.kind)
        out = g.convolve(image, kernel, bias, low, high, every)
        return self.flat(g.transpose(out, [0, 2, 3, 1]), node)


def emit_prologue(program: Program, prologue: Prologue, graph: GraphBuilder) -> None:
    """Fill `graph` with the prologue graph."""
    g, scope = graph, FullScope(program, None, graph)
    scope.emit(program.of(Stage.PROLOGUE))
    for node in prologue.crossing:
        value = g.as_kind(scope.map(node) if node.frame else scope.value(node), crosses_as(g, node))
        if node.op == "input":
            value = graph.copy(value)
        graph.output(prologue.name(node), value, ["B", *prologue.shape(node)])
