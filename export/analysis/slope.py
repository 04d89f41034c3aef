"""The slope of a wavefront: how many columns a row must be ahead of the one below it, so that both are drawn at once.

Pixel (i, j) is drawn at time j + slope * i. A value that is read at offset (dy, dx) must be older than the reader: dx +
slope * dy < 0. What looks back along its own row only, as everything does once leads are moved, is older at any slope.
"""

from __future__ import annotations

from collections.abc import Iterable

from pixelsnail_infer.export.analysis.stages import Program
from pixelsnail_infer.export.fields import Offset, reads

__all__ = ["depth_of", "slope_of"]


def slope_of(program: Program) -> int:
    """The smallest slope of a program that neither attends to pixels nor reads ahead in its own row. It is no more than
    the columns of the canvas, at which every row waits for the whole of the one above."""
    offsets = [offset for node in program.order for edge in node.inputs if edge.source.pixel
               for offset in reads(node, edge)]
    return min(max([0, *(dx // -dy + 1 for dy, dx in offsets if dy < 0)]), program.shape[1])


def depth_of(offsets: Iterable[Offset], slope: int, height: int) -> int:
    """How many rows a ring must hold of what is read at these offsets: row r + depth reaches a column only after
    everybody has read it of row r."""
    depth = 1
    for dy, dx in offsets:
        depth = max(depth, 1 - dy + (-dx // slope if slope else height))
    return min(depth, height)
