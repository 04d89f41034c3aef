"""Emit nodes as operations of a graph. What the graphs share: elementwise and channel operations, products, attention.

Tensors are laid out for a scope: a *point* scope (the step) has `[B, *channels]` and attention scores
`[B, *heads, 1, P]`; a *line* scope has a position axis: `[B, Q, *channels]` and `[B, *heads, Q, P]`. Reads at other
positions, positional constants and caches are what the scopes differ in.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.analysis.stages import TAPPED, Program
from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.graph import Kind, Value
from pixelsnail_infer.export.emission.liveness import Liveness
from pixelsnail_infer.export.emission.maps import emit_map
from pixelsnail_infer.export.emission.masks import Comparison, added_fill, comparison
from pixelsnail_infer.export.emission.pieces import pieces
from pixelsnail_infer.export.emission.rounding import Rounding
from pixelsnail_infer.export.emission.shares import shared_softmax
from pixelsnail_infer.export.fields import Edge, Node

__all__ = ["Scope"]


class Scope(ABC):
    """Emits the nodes of one graph. `lead` counts the slot and position axes; `count` is Q (1 in a point scope)."""

    lead: int
    count: int

    def __init__(self, program: Program, graph: GraphBuilder) -> None:
        self.program, self.graph = program, graph
        self.values: dict[Node, Value] = {}
        self.rounding = Rounding(program, graph)
        self.live = Liveness(graph, {})

    def emit(self, nodes: list[Node]) -> None:
        """Emit `nodes` in order, each in its region."""
        for node in (one for one in nodes if one not in self.values and one.op != "const"):
            self.graph.module = node.where.module
            with self.graph.within(self.live.region(node)):
                value = self._node(node)
                self.values[node] = self.guard(node, value) if node in self.program.guard else value

    @abstractmethod
    def tapped(self, node: Node) -> Value:
        """A linear, lookup or shift node."""

    @abstractmethod
    def merged(self, node: Node) -> Value:
        """A merge of phases."""

    @abstractmethod
    def placed(self, node: Node, like: Kind = "float") -> Value:
        """A positional constant, `[B or 1, (Q,) *channels]`, of the kind that it is used with."""

    @abstractmethod
    def source(self, node: Node) -> Value:
        """A value that this graph does not compute itself."""

    @abstractmethod
    def keys(self, edge: Edge) -> Value:
        """All positions of an attended value (or their blocks), `[B, heads, P, d]`."""

    @abstractmethod
    def positions(self, frame: tuple[int, int]) -> Value:
        """Raster positions on `frame` of the queries, int `[B or 1, 1, Q, 1]`."""

    @abstractmethod
    def guard(self, node: Node, value: Value) -> Value:
        """The border where the node's frame has not begun."""

    def value(self, node: Node) -> Value:
        """The value of a node at the scope's positions."""
        if node not in self.values:
            with self.graph.within(None):  # others may ask for it, too
                self.values[node] = self.source(node)
        return self.values[node]

    def _node(self, node: Node) -> Value:
        g, attrs = self.graph, node.attrs
        if node.op in TAPPED and node.frame is not None:
            return self.product(node)
        if node.op == "linear":
            vector = len(node.channels) == 1
            x = self.operand(node.inputs[0].source, node)
            return self.rounding.settled(node, self.multiplied(node, x, *self.single(node), vector=vector))
        if node.op == "lookup":
            return self.rounding.settled(node, self._look_up(node))
        if node.op in ("input", "spread", "upsample", "pool", "tokens"):
            return self.source(node)
        if node.op in ("merge", "key_dot"):
            return self.merged(node) if node.op == "merge" else self._scores(node)
        if node.op == "key_mix":
            return self._mix(node)
        args = self.rounding.operands(node, lambda source, like: self.operand(source, node, like))
        if node.op == "map":
            if not g.half and (fill := added_fill(node)) is not None:
                return g.add(args[2], g.where(args[0], fill, 0.0))
            return emit_map(g, attrs["fn"], args, attrs.get("params", {}), node)
        return self._channels(node, args)

    def _channels(self, node: Node, args: list[Value]) -> Value:
        g, attrs, lead = self.graph, node.attrs, self._lead(node)
        if node.op == "cat":
            return g.concat(self.full(node, args), lead + attrs["axis"])
        if node.op == "slice":
            return self.cut(node, args[0], lead)
        if node.op == "reshape":
            return g.reshape(args[0], self.shape(node))
        if node.op == "permute":
            tail = range(lead + len(attrs["order"]), lead + len(attrs["order"]) + (2 if node.keys else 0))
            return g.transpose(args[0], [*range(lead), *(lead + k for k in attrs["order"]), *tail])
        if node.op in ("softmax", "log_softmax"):
            return g.softmax(args[0], lead + attrs["axis"], log=node.op == "log_softmax")
        if node.op == "reduce":
            return g.reduce(attrs["fn"], args[0], lead + attrs["axis"])
        if node.op == "key_softmax":
            return shared_softmax(g, node, args)
        if node.op == "key_reduce":
            return self._from_keys(node, g.reduce(attrs["fn"], args[0], -1, keep=True))
        if node.op == "embedding":
            return g.gather(attrs["weight"], args[0], 0)
        raise UnsupportedOpError(f"{node.where}: {node.op} cannot be written to a graph.")

    def product(self, node: Node) -> Value:
        """A linear, lookup or shift node, rounded as its results are."""
        return self.rounding.settled(node, self.tapped(node))

    def _lead(self, node: Node) -> int:
        return 1 if node.keys or node.frame is None else self.lead

    def queries(self, node: Node) -> int:
        """How many queries of a node with keys are computed at once."""
        return self.count

    def shape(self, node: Node) -> list[int]:
        """The node's shape as Reshape takes it (0: as it was)."""
        if node.keys:
            return [0, *node.channels, self.queries(node), -1]
        return [0] * self._lead(node) + list(node.channels)

    def kept(self, node: Node, over_keys: Value, axis: int) -> Value:
        """Of numbers over all keys on an axis, those of the keys that `node` has."""
        return over_keys

    def operand(self, source: Node, node: Node, like: Kind = "float") -> Value:
        """The source laid out to broadcast against `node`'s other operands; constants of the kind that they have."""
        if source.op == "const" and source.frame is None:
            return self._plain_constant(source, node, like)
        if source.op == "const" and source.keys:
            return self._mask(source, node, like)
        value = self.placed(source, like) if source.op == "const" else self.value(source)
        if node.keys and not source.keys:
            return self._to_keys(source, value)
        if self.lead == 2 and node.frame is not None and source.frame is None:
            return self.graph.unsqueeze(value, 1)
        return value

    def _plain_constant(self, source: Node, node: Node, like: Kind) -> Value:
        value = source.attrs["value"]
        if node.keys and not source.keys:
            value = value[..., None, None]
        elif node.keys:
            return self.kept(node, self.graph.constant(value.unsqueeze(-2), like), value.ndim)
        return self.graph.constant(value, like)

    def _mask(self, source: Node, node: Node, like: Kind) -> Value:
        """A table over queries and keys; a comparison of positions where it is one."""
        g = self.graph
        found = comparison(source)
        if isinstance(found, Comparison):
            key = g.constant(torch.arange(source.keys[0] * source.keys[1]).view(1, 1, 1, -1))  # type: ignore[index]
            key = self.kept(node, key, 3)
            hit = g.binary("lt" if found.strict else "le", key, self.positions(source.frame or (1, 1)))
            mask = found.emit(g, hit, source.dtype, like)
            extra = len(node.channels) - 1
            if extra > 0:
                mask = g.unsqueeze(mask, *range(1, 1 + extra))
            elif extra < 0:
                mask = g.squeeze(mask, 1)
            return mask
        return self._table(source, node, like)

    def _table(self, source: Node, node: Node, like: Kind = "float") -> Value:
        """A constant over queries and keys, `[B or 1, *channels, Q, P]`, of the keys that `node` has."""
        g, rank = self.graph, len(source.channels)
        table = self.kept(node, self.placed(source, like), self.lead + rank)  # [B or 1, (Q,) *channels, P]
        if self.lead == 2:
            return g.transpose(table, [0, *range(2, 2 + rank), 1, 2 + rank])
        return g.unsqueeze(table, 1 + rank)

    def _to_keys(self, source: Node, value: Value) -> Value:
        """`[B, (Q,) *channels]` as `[B, *channels, Q, 1]`."""
        g, rank = self.graph, len(source.channels)
        if source.frame is None or self.lead == 1:
            return g.unsqueeze(value, 1 + rank, 2 + rank)
        moved = g.transpose(value, [0, *range(2, 2 + rank), 1])
        return g.unsqueeze(moved, 2 + rank)

    def _from_keys(self, node: Node, value: Value) -> Value:
        """`[B, *channels, Q, 1]` as `[B, (Q,) *channels]`."""
        g, rank = self.graph, len(node.channels)
        if self.lead == 1:
            return g.squeeze(value, 1 + rank, 2 + rank)
        moved = g.squeeze(value, 2 + rank)
        return g.transpose(moved, [0, 1 + rank, *range(1, 1 + rank)])

    def full(self, node: Node, args: list[Value]) -> list[Value]:
        """Operands of a concatenation, which does not broadcast over slots and positions."""
        g, full = self.graph, []
        like = next((a for e, a in zip(node.inputs, args, strict=True) if e.source.op != "const"), args[0])
        for edge, arg in zip(node.inputs, args, strict=True):
            if self.broadcasts(edge.source, node):
                arg = g.expand(arg, edge.source.channels, like, self._lead(node))
            full.append(arg)
        return full

    def broadcasts(self, source: Node, node: Node) -> bool:
        """Whether an operand lacks the slot axis or the positions that `node` has."""
        return source.frame is None and (source.op == "const" or (self.lead == 2 and node.frame is not None))

    def cut(self, node: Node, arg: Value, lead: int) -> Value:
        """One of the pieces that a source is cut into: all of them come from one Split where they tile it."""
        g, axis = self.graph, lead + node.attrs["axis"]
        if (sizes := pieces(self.program, node)) is not None:
            return g.split(arg, list(sizes.values()), axis)[list(sizes).index(node.attrs["start"])]
        return g.slice(arg, node.attrs["start"], node.attrs["start"] + node.attrs["size"], axis)

    def _look_up(self, node: Node) -> Value:
        """A row of a table, for codes that have no positions (a label)."""
        g, (table,), bias = self.graph, node.attrs["taps"].values(), node.attrs["bias"]
        rows = g.constant(table if bias is None else table + bias)
        return g.gather(rows, self.value(node.inputs[0].source), 0)

    def single(self, node: Node) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight `[in, out]` and bias of a linear node with one tap."""
        (tap,) = node.attrs["taps"].values()
        return tap.T, node.attrs["bias"]

    def multiplied(self, node: Node, x: Value, weight: torch.Tensor, bias: torch.Tensor | None = None,
                   vector: bool = False) -> Value:
        """`x [..., in] @ weight + bias`, in the numbers that the product `node` takes. `vector`: x has rank 2, so that
        one operation does both."""
        g, x, held = self.graph, self.rounding.factor(node, x), self.rounding.weight(node, weight)
        if vector and bias is not None:
            return g.linear(x, held, self.rounding.bias(node, bias))
        product = g.matmul(x, held)
        return product if bias is None else g.add(product, bias)

    def _scores(self, node: Node) -> Value:
        g, query = self.graph, node.inputs[0].source
        heads, width = len(node.channels), query.channels[-1]
        q, k = (g.as_kind(one, "float") for one in (self._query(query, node), self._attended(node.inputs[1], node)))
        total = math.prod(query.channels[:-1])  # 1 where all heads of the keys share one query
        if self.lead == 1:  # K @ q: the cache is read as it lies
            column = g.reshape(q, [0, total, width, 1])
            scores = g.matmul(k, column)  # [B, heads, P, 1]
        else:
            q = g.reshape(q, [0, 0, total, width])
            scores = g.matmul(g.transpose(q, [0, 2, 1, 3]), g.transpose(k, [0, 1, 3, 2]))
        if self.lead == 2 and heads == 1:
            return scores
        return g.reshape(scores, [0, *node.channels, self.queries(node), -1])

    def _query(self, query: Node, node: Node) -> Value:
        if query.op != "const":
            return self.value(query)
        if query.frame is None:
            assert node.frame is not None
            value = query.attrs["value"].expand(*node.frame, *query.channels)
            query = Node("const", [], node.frame, query.channels, query.dtype, query.where, attrs={"value": value})
        return self.placed(query)

    def _attended(self, edge: Edge, node: Node) -> Value:
        """All keys of an edge into keys or values of `node`, `[B or 1, heads, P, d]`."""
        if edge.source.op != "const":
            return self.keys(edge)
        value = edge.source.attrs["value"]
        flat = value.flatten(0, 1).reshape(value.shape[0] * value.shape[1], -1, value.shape[-1])  # [P, heads, d]
        return self.kept(node, self.graph.constant(flat.permute(1, 0, 2)[None]), 2)

    def _mix(self, node: Node) -> Value:
        g, weights = self.graph, node.inputs[0].source
        heads, width = node.channels[:-1], node.channels[-1]
        a = g.as_kind(self._table(weights, node) if weights.op == "const" else self.value(weights), "float")
        v = g.as_kind(self._attended(node.inputs[1], node), "float")
        if len(weights.channels) != 1:
            a = g.reshape(a, [0, math.prod(weights.channels), self.queries(node), -1])
        mixed = g.matmul(a, v)  # [B, heads, Q, d]
        if self.lead == 1:
            return g.reshape(mixed, [0, *node.channels])
        mixed = g.transpose(mixed, [0, 2, 1, 3])
        return mixed if len(heads) == 1 else g.reshape(mixed, [0, 0, *heads, width])
