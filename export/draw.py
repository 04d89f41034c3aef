"""The draw in the graph: the Gumbel-max trick on supplied noise, with top-k and top-p in a variant of its own.

argmax(logits + T g) with standard Gumbel g draws from softmax(logits / T) (Gumbel 1954; Maddison et al. 2014); T = 0 gives
the argmax. The filters sort the levels, keep a prefix and draw among it.
"""

from __future__ import annotations

import torch

from pixelsnail_infer.export.onnx_graph import GraphWriter

__all__ = ["write_draw"]


def write_draw(w: GraphWriter, logits: str, col: str, width: int, levels: int, filtered: bool) -> str:
    """`logits [B, levels]` to the pixel, int64 `[B]`; declares noise, temperature, given and use_given."""
    noise = w.input("noise", w.precision, ["B", width, levels])
    temperature = w.op("Unsqueeze", w.input("temperature", w.precision, ["B"]), w.constant([1]))
    gumbel = w.op("Squeeze", w.op("Gather", noise, col, axis=1), w.constant([1]))
    scores = w.op("Add", logits, w.op("Mul", temperature, gumbel))
    drawn = _filtered(w, logits, scores, temperature, levels) if filtered else \
        w.op("ArgMax", scores, axis=1, keepdims=0)
    given = w.op("Squeeze", w.op("Gather", w.input("given", "int64", ["B", width]), col, axis=1), w.constant([1]))
    use = w.op("Squeeze", w.op("Gather", w.input("use_given", "bool", ["B", width]), col, axis=1), w.constant([1]))
    return w.op("Where", use, given, drawn)


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
