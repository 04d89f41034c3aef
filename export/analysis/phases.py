"""Availability once more, of every position of the canvas by itself: what a prediction really sees.

A value of a stride is computed at the first pixel of its block, though its readers may stand behind that, and what lies
outside of a small canvas is nobody's pixel. What such a value sees of later pixels is a leak only if one of the
predictions sees it at its own or a later pixel.
"""

from __future__ import annotations

import torch

from pixelsnail_infer.export.analysis.canonical import Canonical
from pixelsnail_infer.export.evaluation.whole import strided
from pixelsnail_infer.export.evaluation.windows import window
from pixelsnail_infer.export.fields import Edge, Node, phase_of, reads
from pixelsnail_infer.export.lattice import cell

__all__ = ["sees_itself"]


def sees_itself(network: Canonical, order: list[Node]) -> bool:
    """Whether some prediction sees its own pixel or a later one. Attention is not looked through: then it may."""
    if any(edge.keys and edge.source.pixel for node in order for edge in node.inputs):
        return True
    height, width = network.shape
    raster = torch.arange(1, height * width + 1).view(1, height, width)  # 0: no pixel at all
    seen: dict[Node, torch.Tensor] = {}
    for node in order:
        if not node.pixel:
            continue
        if node.op == "input":
            seen[node] = window(raster, network.shift[node], network.shape, None)
        else:
            seen[node] = _latest(node, seen)
        top, left = cell(network.guard.get(node, (0, 0)), node.stride)
        seen[node][:, :top] = 0
        seen[node][:, :, :left] = 0
    return bool((seen[network.output] >= raster).any())


def _latest(node: Node, seen: dict[Node, torch.Tensor]) -> torch.Tensor:
    """The latest pixel that a node sees at each of its positions, `[1, rows, columns]`."""
    assert node.frame is not None
    result = torch.zeros(1, *node.frame, dtype=torch.int64)
    for edge in node.inputs:
        for offset in reads(node, edge) if edge.source in seen else []:
            if node.op == "merge":
                _turn(node, edge, seen[edge.source], result)
            else:
                result = torch.maximum(result, strided(node, edge, seen[edge.source], offset))
    return result


def _turn(node: Node, edge: Edge, own: torch.Tensor, result: torch.Tensor) -> None:
    """Fill in the positions at which it is the turn of a merge's edge."""
    (a, b), (fy, fx) = phase_of(node, edge), node.attrs["factors"]
    part = result[:, a::fy, b::fx]
    part[:] = window(own, cell((edge.dy, edge.dx), edge.source.stride), (part.shape[1], part.shape[2]), None)
