"""Which keys an attention's weights really reach, whatever way they were masked.

For every query row the weights are interpreted abstractly: an entry is either *live* (it depends on pixels) or a known
number. Fills, factors, exponentials, maxima, sums and softmax act on both, so a mask is whatever leaves zeros behind.
Works in blocks of query rows; a whole matrix at 4,096 positions would not fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.evaluation.torch_ops import MAPS
from pixelsnail_infer.export.fields import Node, Offset, key_ends

__all__ = ["FILL", "Block", "Entries", "Support", "attention_nodes", "blocks", "support"]

FILL = -5e3  # a constant at most this, added or filled in before a softmax, masks
BLOCK = 1 << 20  # entries of one block of query rows


@dataclass(frozen=True, slots=True)
class Support:
    """What a weighted sum reads. Lags are relative to the query, in raster order; None: nothing at all."""

    values: Offset | None  # latest position whose value has a weight other than 0
    keys: Offset | None  # latest position whose key a used weight depends on
    used: torch.Tensor  # bool [P, P]: query, key
    constant_row: int | None  # a query whose weights on later positions are constants (a fully masked row)


@dataclass(slots=True)
class Entries:
    """Scores or weights of a block of queries, known or not."""

    live: torch.Tensor  # bool [q, *channels, keys or 1]
    value: torch.Tensor  # valid where not live
    latest: torch.Tensor  # int64: latest key a live entry depends on, -1 for none


def attention_nodes(order: list[Node]) -> set[Node]:
    """Nodes that hold attention scores or weights, or numbers reduced from them, before the weighted sum."""
    found: set[Node] = set()
    for node in order:
        if node.op != "key_mix" and (node.op == "key_dot" or any(e.source in found for e in node.inputs)):
            found.add(node)
    return found


def support(mix: Node, scores: set[Node], shape: tuple[int, int]) -> Support:
    """The support of the weighted sum `mix` on a canvas of `shape`."""
    weights = mix.inputs[0].source
    positions, keys = shape[0] * shape[1], weights.keys[0] * weights.keys[1]  # type: ignore[index]
    used = torch.zeros(positions, keys, dtype=torch.bool)
    depends = torch.full((positions,), -1, dtype=torch.int64)
    constant_row = None
    ends = key_ends(mix.inputs[1], shape) if mix.inputs[1].source.pixel else torch.arange(keys)
    for rows in blocks(positions, keys):
        block = Block(scores, rows, keys).of(weights)
        live, nonzero = _per_key(block.live, keys), _per_key(block.live | ~(block.value == 0), keys)
        used[rows] = nonzero
        latest = torch.where(block.live, block.latest, -1)
        depends[rows] = latest.flatten(1).amax(1)
        future = ends[None] > torch.arange(rows.start, rows.stop)[:, None]
        bad = (nonzero & ~live & future).any(1)
        if constant_row is None and weights in scores and bool(bad.any()):
            constant_row = rows.start + int(bad.nonzero()[0])
    last = torch.where(used, torch.arange(keys)[None], -1).amax(1)
    return Support(_lag(last, ends, shape), _lag(depends, ends, shape), used, constant_row)


def blocks(positions: int, keys: int) -> Iterator[slice]:
    """The queries, so many at a time that a block of their entries is not too large."""
    step = max(1, BLOCK // keys)
    return (slice(start, min(start + step, positions)) for start in range(0, positions, step))


def _per_key(mask: torch.Tensor, keys: int) -> torch.Tensor:
    flat = mask.reshape(mask.shape[0], -1, mask.shape[-1]).any(1)
    return flat.expand(flat.shape[0], keys)


def _lag(latest: torch.Tensor, ends: torch.Tensor, shape: tuple[int, int]) -> Offset | None:
    """The lexicographically latest of the keys relative to their queries; `ends` is where each key ends."""
    query = torch.arange(latest.shape[0])
    valid = latest >= 0
    if not bool(valid.any()):
        return None
    last = ends[latest.clamp(min=0)]
    dy = (last // shape[1] - query // shape[1])[valid]
    dx = (last % shape[1] - query % shape[1])[valid]
    top = int(dy.max())
    return top, int(dx[dy == top].max())


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
            latest = torch.arange(self.keys).expand(count, *ones, self.keys)
            return Entries(torch.ones_like(latest, dtype=torch.bool), torch.zeros(latest.shape), latest)
        if node not in self.scores:
            live = torch.ones(count, *ones, 1, dtype=torch.bool)
            return Entries(live, torch.zeros(live.shape), torch.full(live.shape, -1, dtype=torch.int64))
        inputs = [self.of(edge.source) for edge in node.inputs]
        if node.op == "map":
            return _map(node, inputs)
        if node.op == "key_softmax":
            return self.softmax(inputs[0])
        if node.op == "key_reduce":
            return self.reduce(node.attrs["fn"], inputs[0])
        if node.op in ("reshape", "permute"):
            return _collapse(inputs[0], len(node.channels))
        raise UnsupportedOpError(f"{node.where} ({node.op}) on attention weights is not understood.")


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
