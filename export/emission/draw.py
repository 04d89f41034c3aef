"""The draw in the graph: of codes by the Gumbel-max trick on supplied noise, with top-k and top-p in a variant of its
own.

argmax(logits + T g) with standard Gumbel g draws from softmax(logits / T) (Gumbel 1954; Maddison et al. 2014); T = 0
gives the argmax. The filters sort the levels, keep a prefix and draw among it.
"""

from __future__ import annotations

import torch

from pixelsnail_infer.distributions import Distribution, LogisticMixture
from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.graph import Value
from pixelsnail_infer.export.emission.mixture import emit_mixture_draw

__all__ = ["emit_draw"]


def emit_draw(g: GraphBuilder, logits: Value, col: Value | None, width: int, distribution: Distribution, filtered: bool
              ) -> Value:
    """`logits [B, parameters]` to the pixel, int `[B]` or floating-point `[B, C]`; declares noise, temperature, given
    and use_given: of whole rows, of which `col` is drawn, or without a column, for lanes, of the pixel alone."""
    shape = distribution.pixel_shape
    lead: list[int | str] = ["M"] if col is None else ["B", width]
    noise = g.input("noise", g.wide, [*lead, distribution.noise_width])
    temperature = g.unsqueeze(g.input("temperature", g.wide, lead[:1]), 1)
    noise = _column(g, noise, col)
    if isinstance(distribution, LogisticMixture):
        drawn = emit_mixture_draw(g, logits, noise, temperature, distribution)
    else:
        scores = g.add(logits, g.mul(temperature, noise))
        drawn = _filtered(g, logits, scores, temperature, distribution.parameters) if filtered else g.argmax(scores, 1)
    given = _column(g, g.input("given", drawn.kind, [*lead, *shape]), col)
    use = _column(g, g.input("use_given", "bool", lead), col)
    return g.where(g.unsqueeze(use, 1) if shape else use, given, drawn)


def _column(g: GraphBuilder, row: Value, col: Value | None) -> Value:
    """`[B, W, …]` at the column, `[B, …]`; without one, what is there already."""
    return row if col is None else g.squeeze(g.gather(row, col, 1), 1)


def _filtered(g: GraphBuilder, logits: Value, scores: Value, temperature: Value, levels: int) -> Value:
    top_k = g.unsqueeze(g.input("top_k", "int", ["B"]), 1)
    top_p = g.unsqueeze(g.input("top_p", g.wide, ["B"]), 1)
    ordered, order = g.top(logits, levels, 1)
    best = g.slice(ordered, 0, 1, 1)
    hot = g.binary("gt", temperature, 0.0)
    scaled = g.div(g.sub(ordered, best), g.where(hot, temperature, 1.0))
    limit = g.where(hot, g.binary("max", top_k, 1), 1)
    stays = g.binary("lt", torch.arange(levels)[None], limit)
    weights = g.where(stays, g.unary("exp", scaled), 0.0)
    mass = g.cumulative_sum(weights, 1)
    total = g.reduce("sum", weights, 1, keep=True)
    within = g.binary("lt", mass, g.mul(top_p, total))
    within = g.binary("or", within, g.binary("ge", top_p, 1.0))
    first = g.constant((torch.arange(levels) == 0)[None])
    stays = g.both(stays, g.binary("or", within, first))
    found = g.gather_each(scores, order, 1)
    place = g.argmax(g.where(stays, found, float("-inf")), 1, keep=True)
    return g.squeeze(g.gather_each(order, place, 1), 1)
