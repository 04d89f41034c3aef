"""Attention weights as far as they are known without pixels.

For every query row the weights are interpreted abstractly: an entry is either *live* (it depends on pixels) or a known
number. Fills, factors, exponentials, maxima, sums and softmax act on both, so a mask is whatever leaves zeros behind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.evaluation.torch_ops import MAPS
from pixelsnail_infer.export.fields import Node, key_ends, own_share

__all__ = ["FILL", "Block", "Entries", "attention_nodes"]

FILL = -5e3  # a constant at most this, added or filled in before a softmax, masks


@dataclass(slots=True)
class Entries:
    """Scores or weights of a block of queries, known or not."""

    live: torch.Tensor  # bool [q, *channels, keys or 1]
    value: torch.Tensor  # valid where not live
    latest: torch.Tensor  # int64: latest pixel whose key a live entry depends on, -1 for none


def attention_nodes(order: list[Node]) -> set[Node]:
    """Nodes that hold attention scores or weights, or numbers reduced from them, before the weighted sum."""
    found: set[Node] = set()
    for node in order:
        if node.op != "key_mix" and (node.op == "key_dot" or any(e.source in found for e in node.inputs)):
            found.add(node)
    return found


class Block:
    """Abstract values of the nodes above one weighted sum, for one block of query rows."""

    def __init__(self, scores: set[Node], rows: slice, keys: int) -> None:
        self.scores, self.rows, self.keys = scores, rows, keys
        self.known: dict[Node, Entries] = {}

    def of(self, node: Node) -> Entries:
        if node not in self.known:
            self.known[node] = self._compute(node)
        return self.known[node]

    def softmax(self, x: Entries) -> Entries:
        """Over the keys."""
        return _softmax(x)

    def reduce(self, fn: str, x: Entries) -> Entries:
        """Over the keys, of which one entry is left."""
        return _reduce(fn, x)

    def _compute(self, node: Node) -> Entries:
        count = self.rows.stop - self.rows.start
        ones = (1,) * len(node.channels)
        if node.op == "const":
            value = node.attrs["value"]
            value = value.flatten(0, 1)[self.rows] if node.frame else value[None].expand(count, *value.shape)
            value = value if node.keys else value[..., None]
            return Entries(torch.zeros_like(value, dtype=torch.bool), value,
                             torch.full(value.shape, -1, dtype=torch.int64))
        if node.op == "key_dot":
            latest = _ends(node).expand(count, *ones, -1)
            return Entries(torch.ones_like(latest, dtype=torch.bool), torch.zeros(latest.shape), latest)
        if node not in self.scores:
            live = torch.ones(count, *ones, 1, dtype=torch.bool)
            return Entries(live, torch.zeros(live.shape), torch.full(live.shape, -1, dtype=torch.int64))
        inputs = [self.of(edge.source) for edge in node.inputs]
        if node.op == "map":
            return _map(node, inputs)
        if node.op == "key_softmax":
            return _share(node, self.softmax(_joined(node, inputs)))
        if node.op == "key_reduce":
            return self.reduce(node.attrs["fn"], inputs[0])
        if node.op in ("reshape", "permute"):
            return _collapse(inputs[0], len(node.channels))
        raise UnsupportedOpError(f"{node.where} ({node.op}) on attention weights is not understood.")


def _ends(dot: Node) -> torch.Tensor:
    """The last pixel that each key of a product holds, -1 where it holds none."""
    edge = dot.inputs[1]
    if edge.source.pixel and edge.source.frame is not None:
        return key_ends(edge, edge.source.frame)
    return torch.full((math.prod(dot.keys or ()),), -1)


def _key_counts(node: Node) -> list[int]:
    return [math.prod(edge.source.keys or ()) for edge in node.inputs]


def _joined(node: Node, inputs: list[Entries]) -> Entries:
    """The keys of all inputs one after the other."""
    if len(inputs) == 1:
        return inputs[0]
    whole = [[part.expand(*part.shape[:-1], count) for part in (x.live, x.value, x.latest)]
             for x, count in zip(inputs, _key_counts(node), strict=True)]
    return Entries(*(torch.cat(parts, -1) for parts in zip(*whole, strict=True)))


def _share(node: Node, x: Entries) -> Entries:
    """Of the keys of all inputs those that the node has."""
    if len(node.inputs) == 1:
        return x
    return Entries(*(part.split(_key_counts(node), -1)[own_share(node)] for part in (x.live, x.value, x.latest)))


def _collapse(x: Entries, rank: int) -> Entries:
    """All channels taken together (conservative), for a new channel rank."""
    n, k = x.live.shape[0], x.live.shape[-1]
    live, latest = x.live.reshape(n, -1, k).any(1), x.latest.reshape(n, -1, k).amax(1)
    flat = x.value.reshape(n, -1, k)
    value = flat[:, 0]
    live = live | ~(flat == value[:, None]).all(1) & ~(flat != flat).all(1)
    shape = (n, *(1,) * rank, k)
    return Entries(live.reshape(shape), value.reshape(shape), latest.reshape(shape))


def _map(node: Node, inputs: list[Entries]) -> Entries:
    fn, params = node.attrs["fn"], node.attrs.get("params", {})
    live, latest = inputs[0].live, inputs[0].latest
    for other in inputs[1:]:
        live, latest = live | other.live, torch.maximum(latest, other.latest)
    value = MAPS[fn](*(x.value for x in inputs), **params)
    if fn in ("add", "sub"):
        for k, x in enumerate(inputs):
            sign = -1 if fn == "sub" and k else 1
            fill = ~x.live & (sign * x.value <= FILL)
            value, live = torch.where(fill, sign * x.value.to(value.dtype), value), live & ~fill
    elif fn in ("mul", "div"):
        for x in inputs[:1] if fn == "div" else inputs:
            zero = ~x.live & (x.value == 0)
            value, live = torch.where(zero, torch.zeros_like(value), value), live & ~zero
    elif fn == "where" and not bool(inputs[0].live.any()):
        choice, (x, y) = inputs[0].value.bool(), inputs[1:]
        live, latest = torch.where(choice, x.live, y.live), torch.where(choice, x.latest, y.latest)
    elif fn == "isnan":
        value, live = torch.where(live, torch.zeros_like(value), value), torch.zeros_like(live)
    live, value, latest = torch.broadcast_tensors(live, value, latest)
    return Entries(live, value, torch.where(live, latest, -1))


def _softmax(x: Entries) -> Entries:
    some = x.live.any(-1, keepdim=True)
    masked = ~x.live & (x.value <= FILL)
    live = some & ~masked
    value = torch.where(some, torch.zeros_like(x.value), torch.softmax(x.value, -1))
    latest = torch.where(x.live, x.latest, -1).amax(-1, keepdim=True).expand_as(live)
    return Entries(live, value, torch.where(live, latest, -1))


def _reduce(fn: str, x: Entries) -> Entries:
    live = x.live.any(-1, keepdim=True)
    count = x.value.amax(-1, keepdim=True) if fn == "max" else x.value.sum(-1, keepdim=True)
    if fn == "mean":
        count = count / x.value.shape[-1]
    latest = torch.where(x.live, x.latest, -1).amax(-1, keepdim=True)
    return Entries(live, count, latest)
