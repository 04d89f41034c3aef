"""Values that were written over piece by piece along positions: what is never seen goes, what is equal is one.

A buffer that is filled row by row is a chain of choices, each by a mask that is known: this row from here, the others
from what was there before. Of such a chain it is known which of its values every position shows.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from pixelsnail_infer.export.fields import Edge, Node, topological

__all__ = ["flatten_overwrites"]


def flatten_overwrites(output: Node) -> None:
    """Rewrite below `output`, in which equal nodes are one, the chains of choices that show two values, or only one."""
    for node in topological([output]):
        if _mask(node) is None:
            continue
        shown = _shown(node)
        kept: list[tuple[Edge, torch.Tensor]] = []
        for edge, where in shown:
            same = next((k for k, (other, _) in enumerate(kept) if _equal(other, edge)), None)
            if same is not None:
                kept[same] = (kept[same][0], kept[same][1] | where)
            elif bool(where.any()):
                kept.append((edge, where))
        if len(kept) < min(len(shown), 3):  # no more nodes than there are: others may read the rest of the chain
            _rebuild(node, kept)


def _mask(node: Node) -> torch.Tensor | None:
    """Where a choice by position takes its first value, `[h, w]`; None for other nodes."""
    if node.op != "map" or node.attrs["fn"] != "where" or node.keys or node.frame is None:
        return None
    edge = node.inputs[0]
    known = edge.source.op == "const" and edge.source.frame == node.frame and (edge.dy, edge.dx) == (0, 0)
    if not known or edge.border is not None or any(n != 1 for n in edge.source.channels):
        return None
    found: torch.Tensor = edge.source.attrs["value"].reshape(node.frame)
    return found


def _shown(node: Node) -> list[tuple[Edge, torch.Tensor]]:
    """The values of a chain of choices, the last written first, each with the positions that show it."""
    assert node.frame is not None
    found, left, current = [], torch.ones(node.frame, dtype=torch.bool), node
    while True:
        mask = _mask(current)
        assert mask is not None
        _, chosen, rest = current.inputs
        found.append((chosen, left & mask))
        left = left & ~mask
        below = rest.source
        if (rest.dy, rest.dx) != (0, 0) or rest.border is not None or below.frame != node.frame or \
                below.channels != node.channels or below.dtype != node.dtype or _mask(below) is None:
            return [*found, (rest, left)]
        current = below


def _equal(a: Edge, b: Edge) -> bool:
    return a.source is b.source and (a.dy, a.dx, a.keys, a.pool) == (b.dy, b.dx, b.keys, b.pool) and (
        a.border is b.border or (a.border is not None and b.border is not None and torch.equal(a.border, b.border)))


def _rebuild(node: Node, kept: list[tuple[Edge, torch.Tensor]]) -> None:
    """`node` as the one value that it shows, or as a choice between two."""
    *chosen, (last, where) = kept  # two, or one
    rest, source = replace(last), last.source
    if not chosen and (source.frame, source.channels, source.dtype) == (node.frame, node.channels, node.dtype):
        node.attrs, node.inputs = {"fn": "identity", "params": {}}, [rest]
        return
    chosen = chosen or [(last, where)]
    ((edge, where),) = chosen
    ones = (1,) * len(node.channels)
    mask = replace(node, op="const", inputs=[], channels=ones, dtype=torch.bool, pixel=False, condition=False,
                   attrs={"value": where.reshape(*where.shape, *ones)})
    node.inputs = [Edge(mask), replace(edge), rest]
