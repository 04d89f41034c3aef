"""One softmax over keys that lie in several places: tokens in front of the canvas, and the canvas's own."""

from __future__ import annotations

import math

from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.graph import Value
from pixelsnail_infer.export.fields import Node, own_share

__all__ = ["shared_softmax"]


def shared_softmax(g: GraphBuilder, node: Node, scores: list[Value]) -> Value:
    """The weights of the keys that `node` has, in a softmax over all `scores [B, *channels, Q, keys]`; those of tokens
    in front come first."""
    if len(scores) == 1:
        return g.softmax(scores[0], -1)
    axis, count = len(node.channels) + 2, math.prod(node.inputs[0].source.keys or ())
    weights = g.softmax(g.concat(scores, axis), -1)
    if own_share(node) == 0:
        return g.slice(weights, 0, count, axis)
    return g.pad(weights, [*[0] * axis, -count], [0] * (axis + 1))  # the rest: there may be any number of them
