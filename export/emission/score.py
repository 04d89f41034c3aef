"""The score graph: all positions at once, likelihoods, and the states that known leading rows leave behind."""

from __future__ import annotations

import torch

from pixelsnail_infer.distributions import Distribution, LogisticMixture
from pixelsnail_infer.export.analysis.layout import Cache, Canvas, Layout
from pixelsnail_infer.export.analysis.prologue import Prologue
from pixelsnail_infer.export.analysis.stages import Program, Stage
from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.canvas import kept_as
from pixelsnail_infer.export.emission.full import FullScope
from pixelsnail_infer.export.emission.graph import Value
from pixelsnail_infer.export.emission.mixture import emit_log_probability
from pixelsnail_infer.export.fields import Node
from pixelsnail_infer.export.lattice import cells

__all__ = ["emit_score"]

LOWEST = {"float16": -65504.0}  # of each dtype the least number; never left in a cache


def emit_score(program: Program, layout: Layout, prologue: Prologue, g: GraphBuilder, distribution: Distribution
               ) -> None:
    """Fill `g` with the score graph."""
    height, width = program.shape
    scope = FullScope(program, prologue, g)
    rows = g.input("rows", "int", ["B"])
    scope.emit(program.of(Stage.ROW, Stage.BEFORE, Stage.AFTER))
    logits = g.widened(scope.value(program.output))  # [B, P, parameters]
    pixels = scope.value(program.pixel)
    if isinstance(distribution, LogisticMixture):
        chosen = emit_log_probability(g, logits, pixels, distribution)
    else:
        every = g.softmax(logits, -1, log=True)
        chosen = g.gather_each(every, g.unsqueeze(pixels, 2), 2)
    g.output("logprob", g.reshape(chosen, [0, height, width]), ["B", height, width])
    shape = [height, width, distribution.parameters]
    g.output("logits", g.reshape(logits, [0, *shape]), ["B", *shape])
    for canvas in layout.canvases:
        g.output(f"{canvas.name}.out", _ring(scope, canvas, rows), ["B", *canvas.shape])
    for cache in layout.caches:
        g.output(f"{cache.name}.out", _cache(scope, cache, rows), ["B", *cache.shape])


def _cache(scope: FullScope, cache: Cache, rows: Value) -> Value:
    """The cache after `rows` rows; pooled blocks hold the maxima of their known rows only."""
    g, node = scope.graph, cache.member
    if cache.pool is None:
        return g.copy(g.as_kind(scope.headed(scope.value(node), node), kept_as(g, cache)))
    width, rank = scope.program.shape[1], len(node.channels)
    until = g.unsqueeze(rows, *range(1, 2 + rank))
    row = torch.arange(scope.count).view(1, -1, *(1,) * rank) // width
    value = g.as_kind(scope.value(node), kept_as(g, cache))
    lowest = LOWEST.get(g.precision if value.kind == "float" else "float32", -3.0e38)
    known = g.where(g.binary("lt", row, until), value, lowest)
    blocks = torch.arange(cache.positions).view(1, -1, *(1,) * rank) // (width // cache.pool[1]) * cache.pool[0]
    begun = g.binary("lt", blocks, until)
    value = g.where(begun, scope.pooled(known, node, cache.pool), 0.0)
    return g.copy(scope.headed(value, node))


def _ring(scope: FullScope, canvas: Canvas, rows: Value) -> Value:
    """The canvas as it stands before row `rows`: ring line s holds the last row r < rows with r = s (mod lines)."""
    g, lines = scope.graph, canvas.rows
    every = canvas.every[0]
    rows = g.div(g.add(rows, every - 1), every) if every > 1 else rows  # of cells, which the last known row begins
    last = g.unsqueeze(g.sub(rows, 1), 1)  # [B, 1]
    back = g.mod(g.sub(last, torch.arange(lines)[None]), lines)
    source = g.add(g.sub(last, back), 1)  # [B, lines]; 0 or less: no such row yet
    source = g.unsqueeze(g.binary("max", source, 0), 2)
    members = [_line(scope, canvas, member, source) for member in canvas.members]
    return g.concat(members, 1) if len(members) > 1 else g.copy(members[0])


def _line(scope: FullScope, canvas: Canvas, node: Node, source: Value) -> Value:
    """One member `[B, 1, lines * stride, C]`; row 0 of the padded map is border."""
    g, (height, width) = scope.graph, cells(scope.program.shape, canvas.every)
    value = g.reshape(g.as_float(scope.value(node), kept_as(g, canvas)), [0, height, width, canvas.channels])
    value = g.pad(value, [0, 1, canvas.left, 0], [0, 0, canvas.right, 0], float(canvas.border))
    lines = g.gather_cells(value, source)  # [B, lines, stride, C]
    return g.reshape(lines, [0, 1, canvas.rows * canvas.stride, canvas.channels])
