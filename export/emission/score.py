"""The score graph: all positions at once, likelihoods, and the states that known leading rows leave behind."""

from __future__ import annotations

import torch

from pixelsnail_infer.distributions import Distribution, LogisticMixture
from pixelsnail_infer.export.analysis.layout import Cache, Canvas, Layout
from pixelsnail_infer.export.analysis.prologue import Prologue
from pixelsnail_infer.export.analysis.stages import Program, Stage
from pixelsnail_infer.export.emission.full import FullScope
from pixelsnail_infer.export.emission.mixture import write_log_probability
from pixelsnail_infer.export.emission.onnx_graph import GraphWriter
from pixelsnail_infer.export.fields import Node

__all__ = ["write_score"]

LOWEST = -3.0e38  # below every value; never left in a cache


def write_score(program: Program, layout: Layout, prologue: Prologue, writer: GraphWriter,
                distribution: Distribution) -> None:
    """Fill `writer` with the score graph."""
    height, width = program.shape
    scope = FullScope(program, prologue, writer)
    rows = writer.input("rows", "int64", ["B"])
    scope.emit(program.of(Stage.ROW, Stage.BEFORE, Stage.AFTER))
    logits = scope.value(program.output)  # [B, P, parameters]
    pixels = scope.value(program.pixel)
    if isinstance(distribution, LogisticMixture):
        chosen = write_log_probability(writer, logits, pixels, distribution)
    else:
        every = writer.op("LogSoftmax", logits, axis=-1)
        chosen = writer.op("GatherElements", every, writer.op("Unsqueeze", pixels, writer.constant([2])), axis=2)
    shaped = writer.op("Reshape", chosen, writer.constant([0, height, width]))
    writer.output("logprob", shaped, writer.precision, ["B", height, width])
    shaped = writer.op("Reshape", logits, writer.constant([0, height, width, distribution.parameters]))
    writer.output("logits", shaped, writer.precision, ["B", height, width, distribution.parameters])
    for canvas in layout.canvases:
        writer.output(f"{canvas.name}.out", _ring(scope, canvas, rows), writer.precision, ["B", *canvas.shape])
    for cache in layout.caches:
        value = _cache(scope, cache, rows)
        writer.output(f"{cache.name}.out", value, writer.precision, ["B", *cache.shape])


def _cache(scope: FullScope, cache: Cache, rows: str) -> str:
    """The cache after `rows` rows; pooled blocks hold the maxima of their known rows only."""
    w, node = scope.writer, cache.member
    if cache.pool is None:
        return w.op("Identity", scope.headed(scope.value(node), node))
    width, rank = scope.program.shape[1], len(node.channels)
    until = w.op("Unsqueeze", rows, w.constant(list(range(1, 2 + rank))))
    row = torch.arange(scope.count).view(1, -1, *(1,) * rank) // width
    known = w.op("Where", w.op("Less", w.constant(row), until), scope.value(node), w.constant(LOWEST))
    blocks = torch.arange(cache.positions).view(1, -1, *(1,) * rank) // (width // cache.pool[1]) * cache.pool[0]
    begun = w.op("Less", w.constant(blocks), until)
    value = w.op("Where", begun, scope.pooled(known, node, cache.pool), w.constant(0.0))
    return w.op("Identity", scope.headed(value, node))


def _ring(scope: FullScope, canvas: Canvas, rows: str) -> str:
    """The canvas as it stands before row `rows`: ring line s holds the last row r < rows with r = s (mod lines)."""
    w, lines = scope.writer, canvas.rows
    last = w.op("Unsqueeze", w.op("Sub", rows, w.constant(1)), w.constant([1]))  # [B, 1]
    back = w.op("Mod", w.op("Sub", last, w.constant(torch.arange(lines)[None])), w.constant(lines))
    source = w.op("Add", w.op("Sub", last, back), w.constant(1))  # [B, lines]; 0 or less: no such row yet
    source = w.op("Unsqueeze", w.op("Max", source, w.constant(0)), w.constant([2]))
    members = [_line(scope, canvas, member, source) for member in canvas.members]
    return w.op("Concat", *members, axis=1) if len(members) > 1 else w.op("Identity", members[0])


def _line(scope: FullScope, canvas: Canvas, node: Node, source: str) -> str:
    """One member `[B, 1, lines * stride, C]`; row 0 of the padded map is border."""
    w, (height, width) = scope.writer, scope.program.shape
    value = scope.value(node)
    if not node.dtype.is_floating_point:
        value = w.cast(value, "float")
    value = w.op("Reshape", value, w.constant([0, height, width, canvas.channels]))
    pads = [0, 1, canvas.left, 0, 0, 0, canvas.right, 0]
    value = w.op("Pad", value, w.constant(pads), w.constant(float(canvas.border)), mode="constant")
    lines = w.op("GatherND", value, source, batch_dims=1)  # [B, lines, stride, C]
    return w.op("Reshape", lines, w.constant([0, 1, canvas.rows * canvas.stride, canvas.channels]))
