"""The phases of a merge: who gives them, and where."""

from __future__ import annotations

from pixelsnail_infer.export.fields import Node, Offset
from pixelsnail_infer.export.lattice import times

__all__ = ["Phases"]


class Phases:
    """Of one merge: `rows` of its sources, phase by phase, and the `stride` of those."""

    def __init__(self, node: Node) -> None:
        sources, (_, width) = [edge.source for edge in node.inputs], node.attrs["factors"]
        self.rows = [sources[start:start + width] for start in range(0, len(sources), width)]
        self.stride: Offset = times(node.stride, node.attrs["factors"])

    @property
    def all(self) -> list[Node]:
        """The sources by the number of their phase."""
        return [source for row in self.rows for source in row]

    @property
    def first_row(self) -> list[Node]:
        """The sources that are read where they are computed, in whole rows."""
        return self.rows[0]
