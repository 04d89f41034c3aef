"""Products along a row in Winograd's form, see `analysis.winograd`."""

from __future__ import annotations

import torch

from pixelsnail_infer.export.analysis.winograd import Winograd
from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.graph import Value

__all__ = ["emit_winograd"]


def emit_winograd(g: GraphBuilder, form: Winograd, tiles: Value, weights: torch.Tensor) -> Value:
    """`[B, width, out]` of what tiles read, `[B, points, tiles, in]`, under transformed `weights [points, in, out]`.

    Each point is a product of its own: engines keep a single matrix as they like it best, but not a stack of them.
    """
    count, (points, taken, given) = len(form.starts), weights.shape
    data = g.matmul(form.of_data, g.reshape(tiles, [0, points, count * taken]))
    data = g.reshape(data, [0, points, count, taken])
    parts = [g.matmul(g.slice(data, k, k + 1, 1), weights[k]) for k in range(points)]  # [B, 1, tiles, out]
    results = g.matmul(form.of_results, g.reshape(g.concat(parts, 1), [0, points, count * given]))
    results = g.transpose(g.reshape(results, [0, form.results, count, given]), [0, 2, 1, 3])
    line = g.reshape(results, [0, count * form.results, given])
    return line if form.places == list(range(count * form.results)) else g.gather(line, torch.tensor(form.places), 1)
