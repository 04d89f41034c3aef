"""Mask tables over queries and keys that are nothing but a comparison of raster positions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.graph import Kind, Value
from pixelsnail_infer.export.evaluation.weights import FILL
from pixelsnail_infer.export.fields import Node

__all__ = ["Comparison", "added_fill", "comparison"]

LOWEST = -3e38


@dataclass(frozen=True, slots=True)
class Comparison:
    """`yes` where key < query (or <=, when not strict), `no` elsewhere."""

    strict: bool
    yes: float
    no: float

    def emit(self, g: GraphBuilder, hit: Value, dtype: torch.dtype, like: Kind = "float") -> Value:
        """The table's values from `hit`, bool; floating-point ones as those that they are used with."""
        if dtype == torch.bool:
            return hit if self.yes else g.unary("not", hit)
        number = int if not dtype.is_floating_point else float
        return g.where(hit, g.constant(number(self.yes), like), g.constant(number(self.no), like))


def comparison(table: Node) -> Comparison | None:
    """The comparison that a constant with `[H, W, *channels, P]` values amounts to, if it is one."""
    value = table.attrs["value"]
    positions = value.shape[0] * value.shape[1]
    if value.shape[-1] != positions or value.numel() != positions * positions or positions < 2:
        return None
    flat = value.reshape(positions, positions)
    yes, no, own = flat[1, 0], flat[0, 1], flat[0, 0]
    if not bool(yes != no):
        return None
    strict = bool(own == no)
    reach = torch.ones_like(flat, dtype=torch.bool).tril(-1 if strict else 0)
    expected = torch.where(reach, yes, no)
    return Comparison(strict, float(yes), float(no)) if torch.equal(expected, flat) else None


def added_fill(node: Node) -> float | None:
    """Of scores that a mask of all heads fills, what may be added to those filled: a number so low that nothing else
    counts. What is made once for all heads is added faster than it is chosen for each."""
    if node.op != "map" or node.attrs["fn"] != "where" or not node.keys:
        return None
    mask, fill, scores = (edge.source for edge in node.inputs)
    if mask.op != "const" or not mask.keys or math.prod(mask.channels) != 1 or math.prod(node.channels) == 1:
        return None
    number = fill.attrs["value"] if fill.op == "const" and not fill.keys and fill.frame is None else None
    if number is None or number.numel() != 1 or float(number) > FILL or scores.channels != node.channels:
        return None
    return float("-inf") if float(number) == float("-inf") else LOWEST
