"""The slope of a wavefront: how many columns a row must be ahead of the one below it, so that both are drawn at once.

Pixel (i, j) is drawn at time j + slope * i. A value that is read at offset (dy, dx) must be older than the reader: dx +
slope * dy < 0. What looks back along its own row only is older at any slope.
"""

from __future__ import annotations

from collections.abc import Iterable

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.analysis.stages import Program
from pixelsnail_infer.export.fields import Node, Offset, reads

__all__ = ["depth_of", "slope_of"]


def slope_of(program: Program) -> int:
    """The smallest slope of a program. Raises `UnsupportedOpError` where there is none, and says why."""
    slope = 0
    for node in program.order:
        for edge in node.inputs:
            if not edge.source.pixel:
                continue
            if edge.keys:
                raise _none(node, "attends to pixels of whole rows, which other lanes have not drawn yet")
            for dy, dx in reads(node, edge):
                if dy < 0:
                    slope = max(slope, dx // -dy + 1)
                elif dx > 0:
                    raise _none(node, f"reads {edge.source.where} {dx} column{'s' if dx > 1 else ''} ahead in its own "
                                      "row, which would have to be computed before its pixel's turn")
    return slope


def depth_of(offsets: Iterable[Offset], slope: int, height: int) -> int:
    """How many rows a ring must hold of what is read at these offsets: row r + depth reaches a column only after
    everybody has read it of row r."""
    depth = 1
    for dy, dx in offsets:
        depth = max(depth, 1 - dy + (-dx // slope if slope else height))
    return min(depth, height)


def _none(node: Node, why: str) -> UnsupportedOpError:
    return UnsupportedOpError(f"the network has no wavefront: {node.where} {why}.")
