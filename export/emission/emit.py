"""Write nodes as ONNX operations. What the graphs share: elementwise and channel operations, products, attention.

Tensors are laid out for a scope: a *point* scope (the step) has `[B, *channels]` and attention scores
`[B, *heads, 1, P]`; a *line* scope has a position axis: `[B, Q, *channels]` and `[B, *heads, Q, P]`. Reads at other
positions, positional constants and caches are what the scopes differ in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.analysis.stages import TAPPED, Program
from pixelsnail_infer.export.emission.maps import emit_map
from pixelsnail_infer.export.emission.masks import Comparison, comparison
from pixelsnail_infer.export.emission.onnx_graph import GraphWriter
from pixelsnail_infer.export.fields import Edge, Node

__all__ = ["Scope"]


class Scope(ABC):
    """Emits the nodes of one graph. `lead` counts the slot and position axes; `count` is Q (1 in a point scope)."""

    lead: int
    count: int

    def __init__(self, program: Program, writer: GraphWriter) -> None:
        self.program, self.writer = program, writer
        self.values: dict[Node, str] = {}

    def emit(self, nodes: list[Node]) -> None:
        """Write `nodes` in order."""
        for node in nodes:
            if node not in self.values and node.op != "const":
                self.writer.prefix = node.where.module
                self.values[node] = self._guarded(node, self._node(node))

    @abstractmethod
    def tapped(self, node: Node) -> str:
        """A linear, lookup or shift node."""

    @abstractmethod
    def placed(self, node: Node) -> str:
        """A positional constant, `[B or 1, (Q,) *channels]`."""

    @abstractmethod
    def source(self, node: Node) -> str:
        """A value that this graph does not compute itself."""

    @abstractmethod
    def keys(self, edge: Edge) -> str:
        """All positions of an attended value (or their blocks), `[B, heads, P, d]`."""

    @abstractmethod
    def positions(self, frame: tuple[int, int]) -> str:
        """Raster positions on `frame` of the queries, int64 `[B or 1, 1, Q, 1]`."""

    @abstractmethod
    def guard(self, node: Node, value: str) -> str:
        """The border where the node's frame has not begun."""

    def value(self, node: Node) -> str:
        """The value of a node at the scope's positions."""
        if node not in self.values:
            self.values[node] = self.source(node)
        return self.values[node]

    def _guarded(self, node: Node, value: str) -> str:
        return self.guard(node, value) if node in self.program.guard else value

    def _node(self, node: Node) -> str:
        w, attrs = self.writer, node.attrs
        if node.op in TAPPED and node.frame is not None:
            return self.tapped(node)
        if node.op == "linear":
            vector = len(node.channels) == 1
            return self.dense(self.operand(node.inputs[0].source, node), *self.single(node), vector=vector)
        if node.op == "lookup":
            return self._look_up(node)
        if node.op in ("input", "spread", "upsample", "pool"):
            return self.source(node)
        if node.op == "key_dot":
            return self._scores(node)
        if node.op == "key_mix":
            return self._mix(node)
        args = [self.operand(edge.source, node) for edge in node.inputs]
        if node.op == "map":
            return emit_map(w, attrs["fn"], args, attrs.get("params", {}), node)
        return self._channels(node, args)

    def _channels(self, node: Node, args: list[str]) -> str:
        w, attrs, lead = self.writer, node.attrs, self._lead(node)
        if node.op == "cat":
            return w.op("Concat", *self.full(node, args), axis=lead + attrs["axis"])
        if node.op == "slice":
            return self.cut(node, args[0], lead)
        if node.op == "reshape":
            return w.op("Reshape", args[0], w.constant(self.shape(node)))
        if node.op == "permute":
            tail = range(lead + len(attrs["order"]), lead + len(attrs["order"]) + (2 if node.keys else 0))
            return w.op("Transpose", args[0], perm=[*range(lead), *(lead + k for k in attrs["order"]), *tail])
        if node.op in ("softmax", "log_softmax"):
            return w.op("Softmax" if node.op == "softmax" else "LogSoftmax", args[0], axis=lead + attrs["axis"])
        if node.op == "reduce":
            return self._reduce(attrs["fn"], args[0], lead + attrs["axis"], False)
        if node.op == "key_softmax":
            return w.op("Softmax", args[0], axis=-1)
        if node.op == "key_reduce":
            return self._from_keys(node, self._reduce(attrs["fn"], args[0], -1, True))
        if node.op == "embedding":
            return w.op("Gather", w.constant(attrs["weight"]), args[0], axis=0)
        raise UnsupportedOpError(f"{node.where}: {node.op} cannot be written to a graph.")

    def _lead(self, node: Node) -> int:
        return 1 if node.keys or node.frame is None else self.lead

    def queries(self, node: Node) -> int:
        """How many queries of a node with keys this graph computes at once."""
        return self.count

    def shape(self, node: Node) -> list[int]:
        """The node's shape as Reshape takes it (0: as it was)."""
        if node.keys:
            return [0, *node.channels, self.queries(node), node.keys[0] * node.keys[1]]
        return [0] * self._lead(node) + list(node.channels)

    def operand(self, source: Node, node: Node) -> str:
        """The source laid out to broadcast against `node`'s other operands."""
        if source.op == "const" and source.frame is None:
            return self._plain_constant(source, node)
        if source.op == "const" and source.keys:
            return self._mask(source, node)
        value = self.placed(source) if source.op == "const" else self.value(source)
        if node.keys and not source.keys:
            return self._to_keys(source, value)
        if self.lead == 2 and node.frame is not None and source.frame is None:
            return self.writer.op("Unsqueeze", value, self.writer.constant([1]))
        return value

    def _plain_constant(self, source: Node, node: Node) -> str:
        value = source.attrs["value"]
        if node.keys and not source.keys:
            value = value[..., None, None]
        elif node.keys:
            value = value.unsqueeze(-2)
        return self.writer.constant(value)

    def _mask(self, source: Node, node: Node) -> str:
        """A table over queries and keys; a comparison of positions where it is one."""
        w = self.writer
        found = comparison(source)
        if isinstance(found, Comparison):
            key = w.constant(torch.arange(source.keys[0] * source.keys[1]).view(1, 1, 1, -1))  # type: ignore[index]
            hit = w.op("Less" if found.strict else "LessOrEqual", key, self.positions(source.frame or (1, 1)))
            mask = found.write(w, hit, source.dtype)
            extra = len(node.channels) - 1
            if extra > 0:
                mask = w.op("Unsqueeze", mask, w.constant(list(range(1, 1 + extra))))
            elif extra < 0:
                mask = w.op("Squeeze", mask, w.constant([1]))
            return mask
        return self._table(source)

    def _table(self, source: Node) -> str:
        """A constant over queries and keys, `[B or 1, *channels, Q, P]`."""
        w = self.writer
        table = self.placed(source)  # [B or 1, (Q,) *channels, P]
        rank = len(source.channels)
        if self.lead == 2:
            return w.op("Transpose", table, perm=[0, *range(2, 2 + rank), 1, 2 + rank])
        return w.op("Unsqueeze", table, w.constant([1 + rank]))

    def _to_keys(self, source: Node, value: str) -> str:
        """`[B, (Q,) *channels]` as `[B, *channels, Q, 1]`."""
        w, rank = self.writer, len(source.channels)
        if source.frame is None:
            return w.op("Unsqueeze", value, w.constant([1 + rank, 2 + rank]))
        if self.lead == 1:
            return w.op("Unsqueeze", value, w.constant([1 + rank, 2 + rank]))
        moved = w.op("Transpose", value, perm=[0, *range(2, 2 + rank), 1])
        return w.op("Unsqueeze", moved, w.constant([2 + rank]))

    def _from_keys(self, node: Node, value: str) -> str:
        """`[B, *channels, Q, 1]` as `[B, (Q,) *channels]`."""
        w, rank = self.writer, len(node.channels)
        if self.lead == 1:
            return w.op("Squeeze", value, w.constant([1 + rank, 2 + rank]))
        moved = w.op("Squeeze", value, w.constant([2 + rank]))
        return w.op("Transpose", moved, perm=[0, 1 + rank, *range(1, 1 + rank)])

    def full(self, node: Node, args: list[str]) -> list[str]:
        """Operands of a concatenation, which does not broadcast over slots and positions."""
        w, full = self.writer, []
        like = next((a for e, a in zip(node.inputs, args, strict=True) if e.source.op != "const"), args[0])
        for edge, arg in zip(node.inputs, args, strict=True):
            if self.broadcasts(edge.source, node):
                lead = w.op("Shape", like, start=0, end=self._lead(node))
                arg = w.op("Expand", arg, w.op("Concat", lead, w.constant(list(edge.source.channels)), axis=0))
            full.append(arg)
        return full

    def broadcasts(self, source: Node, node: Node) -> bool:
        """Whether an operand lacks the slot axis or the positions that `node` has."""
        return source.frame is None and (source.op == "const" or (self.lead == 2 and node.frame is not None))

    def cut(self, node: Node, arg: str, lead: int) -> str:
        """One of the pieces that a source is cut into: all of them come from one Split where they tile it."""
        w, axis, source = self.writer, node.attrs["axis"], node.inputs[0].source
        total = source.channels[axis]
        pieces = sorted({(n.attrs["start"], n.attrs["size"]) for n in self.program.order if n.op == "slice"
                         and n.inputs[0].source is source and n.attrs["axis"] == axis})
        ends = [start + size for start, size in pieces]
        if [start for start, _ in pieces] == [0, *ends[:-1]] and ends[-1] == total:
            results = w.ops("Split", len(pieces), arg, w.constant([size for _, size in pieces]), axis=lead + axis)
            return results[pieces.index((node.attrs["start"], node.attrs["size"]))]
        start, end = node.attrs["start"], node.attrs["start"] + node.attrs["size"]
        return w.op("Slice", arg, w.constant([start]), w.constant([end]), w.constant([lead + axis]))

    def _reduce(self, fn: str, arg: str, axis: int, keep: bool) -> str:
        kind = {"max": "ReduceMax", "sum": "ReduceSum", "mean": "ReduceMean"}[fn]
        return self.writer.op(kind, arg, self.writer.constant([axis]), keepdims=int(keep))

    def _look_up(self, node: Node) -> str:
        """A row of a table, for codes that have no positions (a label)."""
        w, (table,), bias = self.writer, node.attrs["taps"].values(), node.attrs["bias"]
        rows = table if bias is None else table + bias
        return w.op("Gather", w.constant(rows), self.value(node.inputs[0].source), axis=0)

    def single(self, node: Node) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight `[in, out]` and bias of a linear node with one tap."""
        (tap,) = node.attrs["taps"].values()
        return tap.T, node.attrs["bias"]

    def dense(self, x: str, weight: torch.Tensor, bias: torch.Tensor | None, vector: bool = False) -> str:
        """`x [..., in] @ weight + bias`. `vector`: x has rank 2, so that one Gemm does both."""
        w = self.writer
        if vector and bias is not None:
            return w.op("Gemm", x, w.constant(weight), w.constant(bias))
        product = w.op("MatMul", x, w.constant(weight))
        return product if bias is None else w.op("Add", product, w.constant(bias))

    def _scores(self, node: Node) -> str:
        w, query = self.writer, node.inputs[0].source
        heads, width, count = len(node.channels), query.channels[-1], node.keys[0] * node.keys[1]  # type: ignore[index]
        q, k = self._query(query, node), self._attended(node.inputs[1])
        total = _product(query.channels[:-1])  # 1 where all heads of the keys share one query
        if self.lead == 1:  # K @ q: the cache is read as it lies
            column = w.op("Reshape", q, w.constant([0, total, width, 1]))
            scores = w.op("MatMul", k, column)  # [B, heads, P, 1]
        else:
            q = w.op("Reshape", q, w.constant([0, 0, total, width]))
            scores = w.op("MatMul", w.op("Transpose", q, perm=[0, 2, 1, 3]), w.op("Transpose", k, perm=[0, 1, 3, 2]))
        if self.lead == 2 and heads == 1:
            return scores
        return w.op("Reshape", scores, w.constant([0, *node.channels, self.queries(node), count]))

    def _query(self, query: Node, node: Node) -> str:
        if query.op != "const":
            return self.value(query)
        if query.frame is None:
            assert node.frame is not None
            value = query.attrs["value"].expand(*node.frame, *query.channels)
            query = Node("const", [], node.frame, query.channels, query.dtype, query.where, attrs={"value": value})
        return self.placed(query)

    def _attended(self, edge: Edge) -> str:
        """All keys of an edge into keys or values, `[B or 1, heads, P, d]`."""
        if edge.source.op != "const":
            return self.keys(edge)
        value = edge.source.attrs["value"]
        flat = value.flatten(0, 1).reshape(value.shape[0] * value.shape[1], -1, value.shape[-1])  # [P, heads, d]
        return self.writer.constant(flat.permute(1, 0, 2)[None])

    def _mix(self, node: Node) -> str:
        w, weights = self.writer, node.inputs[0].source
        heads, width, count = node.channels[:-1], node.channels[-1], weights.keys[0] * weights.keys[1]  # type: ignore[index]
        a = self._table(weights) if weights.op == "const" else self.value(weights)
        v = self._attended(node.inputs[1])
        if len(weights.channels) != 1:
            a = w.op("Reshape", a, w.constant([0, _product(weights.channels), self.queries(node), count]))
        mixed = w.op("MatMul", a, v)  # [B, heads, Q, d]
        if self.lead == 1:
            return w.op("Reshape", mixed, w.constant([0, *node.channels]))
        mixed = w.op("Transpose", mixed, perm=[0, 2, 1, 3])
        return mixed if len(heads) == 1 else w.op("Reshape", mixed, w.constant([0, 0, *heads, width]))


def _product(sizes: Any) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total
