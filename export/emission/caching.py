"""What the graphs share that are drawn with: the row graph and the step, which take caches."""

from __future__ import annotations

from pixelsnail_infer.export.analysis.layout import Layout
from pixelsnail_infer.export.analysis.prologue import Prologue
from pixelsnail_infer.export.analysis.stages import Program
from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.canvas import declare
from pixelsnail_infer.export.emission.graph import Value
from pixelsnail_infer.export.emission.scope import Scope
from pixelsnail_infer.export.fields import Node

__all__ = ["CachingScope"]


class CachingScope(Scope):
    """A scope over one position or row. Its caches that grow are as long as one another."""

    def __init__(self, program: Program, layout: Layout, prologue: Prologue, graph: GraphBuilder) -> None:
        super().__init__(program, graph)
        self.layout, self.prologue = layout, prologue
        self._long: Value | None = None  # a cache that grows: the same one for all, so that equal operations are one

    def kept(self, node: Node, over_keys: Value, axis: int) -> Value:
        """Of numbers over all keys on an axis, those of the keys that `node` has."""
        edge = self.layout.growing.get(node)
        if edge is None:
            return over_keys
        cache = self.layout.cache[edge.source]
        if self._long is None and cache.inclusive and cache.member not in self.values:  # to be written later
            return self.graph.slice(over_keys, 0, declare(self.graph, cache), axis)
        self._long = self._long or self.keys(edge)
        return self.graph.slice(over_keys, 0, self._long, axis)
