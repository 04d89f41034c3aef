"""In the row graph and the step: which values of a stride are computed in a run, and for which slots."""

from __future__ import annotations

from collections.abc import Iterable

from pixelsnail_infer.export.analysis.depths import Together
from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.graph import Region, Value
from pixelsnail_infer.export.fields import Node, Offset

__all__ = ["Liveness"]


class Liveness:
    """Of one graph. `row` is int `[B]`, None where all rows are there; `col` is int `[1]`, None for whole rows."""

    def __init__(self, graph: GraphBuilder, of: dict[Node, Together], row: Value | None = None,
                 col: Value | None = None) -> None:
        self.graph, self.of, self.row, self.col = graph, of, row, col

    def region(self, node: Node) -> Region | None:
        """What the node's operations are done in; None: always."""
        return self.region_of(self.of[node]) if node in self.of else None

    def latest(self, nodes: Iterable[Node]) -> Region | None:
        """The last of the regions of values of one stride."""
        return self.region_of(max((self.of[node] for node in nodes if node in self.of), default=None))

    def region_of(self, key: Together | None) -> Region | None:
        """What is computed together as a region of the graph."""
        if key is None:
            return None
        g, (rows, columns) = self.graph, key.stride
        with g.within(None):
            live = g.cast(self.mask(key.stride), "int")
            live = g.binary("gt", g.reduce("max", live, 0, keep=True), 0)
        return Region(f"{key.stage.name.lower()}.{rows}x{columns}.{key.depth}", key.stride, live)

    def mask(self, stride: Offset, rank: int = 0) -> Value:
        """The slots at whose position, or row, values of this stride are computed: bool `[B or 1, *(1,) * rank]`."""
        g, parts = self.graph, []
        with g.within(None):
            for place, every in zip((self.row, self.col), stride, strict=True):
                if place is not None and every > 1:
                    parts.append(g.binary("eq", g.mod(place, every), 0))
            mask = parts[0] if len(parts) == 1 else g.both(*parts)
            return g.unsqueeze(mask, *range(1, 1 + rank)) if rank else mask

    def phase(self, node: Node) -> Value:
        """The phase of every slot in which a merge is at its position, or row: int `[B or 1]`."""
        g, (fy, fx) = self.graph, node.attrs["factors"]
        assert self.row is not None
        with g.within(None):
            found = self._phase(self.row, node.stride[0], fy)
            return found if self.col is None else g.add(g.mul(found, fx), self._phase(self.col, node.stride[1], fx))

    def _phase(self, place: Value, every: int, factor: int) -> Value:
        return self.graph.mod(self.graph.div(place, every) if every > 1 else place, factor)


