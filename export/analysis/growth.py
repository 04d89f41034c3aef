"""Which caches may be as long as the rows that were begun: attention that gives the same numbers without later rows.

Masked keys have no weight, but a sum, a mean or a softmax over all keys may still count them: it does so where a whole
row of scores is masked, or where keys are masked by another number than a very low one. Such numbers may not be left.
"""

from __future__ import annotations

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.analysis.stages import Program
from pixelsnail_infer.export.analysis.support import blocks
from pixelsnail_infer.export.evaluation.weights import FILL, Block, Entries, attention_nodes
from pixelsnail_infer.export.fields import Edge, Node, own_share

__all__ = ["growing"]


def growing(program: Program) -> dict[Node, Edge]:
    """Scores, weights and weighted sums that later rows do not matter to, each with an edge by which its attention
    reads a cache. Attention that shares a cache or scores with one that does need them is left out."""
    groups = _Groups()
    found, scores = dict[Node, Edge](), attention_nodes(program.order)
    for node in program.order:
        for edge in node.inputs:
            if edge.keys and edge.source.pixel:
                found[node] = edge
                groups.join(node, edge.source)
            elif edge.source.keys and edge.source.op != "const" and _is_own(node, edge):
                groups.join(node, edge.source)
    whole = {groups.of(node) for node in groups.known
             if not _is_plain(node, program) or (node.op == "key_mix" and not _is_same(node, scores, program))}
    edges = {groups.of(node): edge for node, edge in found.items()}
    return {node: edges[group] for node in groups.known
            if (group := groups.of(node)) not in whole and group in edges and (node.keys or node.op == "key_mix")}


class _Groups:
    """Nodes that must have keys of one length."""

    def __init__(self) -> None:
        self.known: dict[Node, Node] = {}

    def of(self, node: Node) -> Node:
        while self.known.setdefault(node, node) is not node:
            node = self.known[node]
        return node

    def join(self, a: Node, b: Node) -> None:
        self.known[self.of(a)] = self.of(b)


def _is_plain(node: Node, program: Program) -> bool:
    """Whether all keys that the node has or reads are the canvas's own positions, one each."""
    own = [edge.source for edge in node.inputs if _is_own(node, edge)]
    keys = [source.keys for source in (node, *own) if source.keys]
    positions = program.shape[0] * program.shape[1]
    tables = [edge.source for edge in node.inputs if edge.source.op == "const" and (edge.source.keys or edge.keys)]
    sizes = [t.attrs["value"].shape[-1] if t.keys else t.attrs["value"].flatten(0, 1).shape[0] for t in tables]
    return all(one == program.shape for one in keys) and all(size == positions for size in sizes) and not any(
        edge.keys and (edge.pool or not (edge.source.pixel or edge.source.op == "const")) for edge in node.inputs)


def _is_same(mix: Node, scores: set[Node], program: Program) -> bool:
    """Whether the weights of every query are the same without the keys of later rows, which have none."""
    weights, (height, width) = mix.inputs[0].source, program.shape
    if mix.frame != program.shape:
        return False
    row = torch.arange(height * width) // width
    counts = program.support[mix].used.any(1)  # what is mixed for other queries becomes 0, if only behind the sum
    for some in blocks(len(row), len(row)):
        later = row[None] > row[some, None]
        try:
            found = _Kept(scores, some, later).of(weights)
        except UnsupportedOpError:
            return False
        hidden = _over_keys(found, later)
        weighed = hidden & (found.live | ~(found.value == 0)) | (found.live & (found.latest >= len(row)))
        if bool(weighed[counts[some]].any()):
            return False
    return True


def _is_own(node: Node, edge: Edge) -> bool:
    """Whether the edge reads numbers over the keys that the node has, and not what shares a softmax with them."""
    return node.op != "key_softmax" or edge is node.inputs[own_share(node)]


def _over_keys(x: Entries, later: torch.Tensor) -> torch.Tensor:
    """`later [q, keys]` as the entries lie, `[q, *channels, keys]`; keys in front of the canvas's are not later."""
    later = torch.nn.functional.pad(later, (max(x.live.shape[-1] - later.shape[1], 0), 0))
    return later.view(later.shape[0], *(1,) * (x.live.ndim - 2), later.shape[1])


class _Kept(Block):
    """Abstract values of which those that count `later` keys are live, and see a key beyond all."""

    def __init__(self, scores: set[Node], rows: slice, later: torch.Tensor) -> None:
        super().__init__(scores, rows, later.shape[1])
        self.later = later

    def softmax(self, x: Entries) -> Entries:
        """Over the keys: entries that are not hidden by a fill count, and where all are hidden every one does."""
        result, later = super().softmax(x), _over_keys(x, self.later)
        counts = (later & ~_is_filled(x)).any(-1, keepdim=True)
        kept = torch.softmax(x.value.masked_fill(later, -torch.inf), -1)
        known = ~(x.live & ~later).any(-1, keepdim=True)
        other = ~(kept == result.value) & ~(kept.isnan() & result.value.isnan()) & ~later
        return _marked(result, counts | (known & other.any(-1, keepdim=True)), self.keys)

    def reduce(self, fn: str, x: Entries) -> Entries:
        """Over the keys: zeros do not count in a sum, and fills not in a maximum that has something else."""
        later = _over_keys(x, self.later)
        counts = later & (x.live | ~(x.value == 0)) if fn == "sum" else later if fn == "mean" else \
            later & (~_is_filled(x) | ~(x.live & ~later).any(-1, keepdim=True))
        return _marked(super().reduce(fn, x), counts.any(-1, keepdim=True), self.keys)


def _is_filled(x: Entries) -> torch.Tensor:
    return ~x.live & (x.value <= FILL)


def _marked(x: Entries, rows: torch.Tensor, keys: int) -> Entries:
    """With the entries of some rows live, as if they saw a key beyond all `keys`."""
    rows, live, latest = torch.broadcast_tensors(rows, x.live, x.latest)
    return Entries(live | rows, x.value, latest.masked_fill(rows, keys))
