"""The draw in the graph: of codes by the Gumbel-max trick on supplied noise, with top-k and top-p in a variant of its
own.

argmax(logits + T g) with standard Gumbel g draws from softmax(logits / T) (Gumbel 1954; Maddison et al. 2014); T = 0
gives the argmax. The filters sort the levels, keep a prefix and draw among it.
"""

from __future__ import annotations

import torch

from pixelsnail_infer.distributions import Distribution, LogisticMixture
from pixelsnail_infer.export.emission.mixture import write_mixture_draw
from pixelsnail_infer.export.emission.onnx_graph import GraphWriter

__all__ = ["pixel_dtype", "write_draw"]


def write_draw(w: GraphWriter, logits: str, col: str, width: int, distribution: Distribution, filtered: bool) -> str:
    """`logits [B, parameters]` to the pixel, int64 `[B]` or floating-point `[B, C]`; declares noise, temperature, given
    and use_given."""
    shape = distribution.pixel_shape
    noise = w.input("noise", w.precision, ["B", width, distribution.noise_width])
    temperature = w.op("Unsqueeze", w.input("temperature", w.precision, ["B"]), w.constant([1]))
    noise = _column(w, noise, col)
    if isinstance(distribution, LogisticMixture):
        drawn = write_mixture_draw(w, logits, noise, temperature, distribution)
    else:
        scores = w.op("Add", logits, w.op("Mul", temperature, noise))
        drawn = _filtered(w, logits, scores, temperature, distribution.parameters) if filtered else \
            w.op("ArgMax", scores, axis=1, keepdims=0)
    given = _column(w, w.input("given", pixel_dtype(w, distribution), ["B", width, *shape]), col)
    use = _column(w, w.input("use_given", "bool", ["B", width]), col)
    return w.op("Where", w.op("Unsqueeze", use, w.constant([1])) if shape else use, given, drawn)


def pixel_dtype(w: GraphWriter, distribution: Distribution) -> str:
    """Codes are int64; channels take the graph's precision."""
    return w.precision if distribution.pixel_shape else "int64"


def _column(w: GraphWriter, row: str, col: str) -> str:
    """`[B, W, …]` at the column, `[B, …]`."""
    return w.op("Squeeze", w.op("Gather", row, col, axis=1), w.constant([1]))


def _filtered(w: GraphWriter, logits: str, scores: str, temperature: str, levels: int) -> str:
    top_k = w.op("Unsqueeze", w.input("top_k", "int64", ["B"]), w.constant([1]))
    top_p = w.op("Unsqueeze", w.input("top_p", w.precision, ["B"]), w.constant([1]))
    ordered, order = w.ops("TopK", 2, logits, w.constant([levels]), axis=1, largest=1, sorted=1)
    best = w.op("Slice", ordered, w.constant([0]), w.constant([1]), w.constant([1]))
    hot = w.op("Greater", temperature, w.constant(0.0))
    scaled = w.op("Div", w.op("Sub", ordered, best), w.op("Where", hot, temperature, w.constant(1.0)))
    limit = w.op("Where", hot, w.op("Max", top_k, w.constant(1)), w.constant(1))
    stays = w.op("Less", w.constant(torch.arange(levels)[None]), limit)
    weights = w.op("Where", stays, w.op("Exp", scaled), w.constant(0.0))
    mass = w.op("CumSum", weights, w.constant(1), exclusive=1)
    total = w.op("ReduceSum", weights, w.constant([1]), keepdims=1)
    within = w.op("Less", mass, w.op("Mul", top_p, total))
    within = w.op("Or", within, w.op("GreaterOrEqual", top_p, w.constant(1.0)))
    first = w.constant((torch.arange(levels) == 0)[None])
    stays = w.op("And", stays, w.op("Or", within, first))
    found = w.op("GatherElements", scores, order, axis=1)
    place = w.op("ArgMax", w.op("Where", stays, found, w.constant(float("-inf"))), axis=1, keepdims=1)
    return w.op("Squeeze", w.op("GatherElements", order, place, axis=1), w.constant([1]))
