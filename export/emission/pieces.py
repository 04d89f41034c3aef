"""Slices that tile what they are cut from."""

from __future__ import annotations

from pixelsnail_infer.export.analysis.stages import Program
from pixelsnail_infer.export.fields import Node

__all__ = ["pieces"]


def pieces(program: Program, node: Node) -> dict[int, int] | None:
    """Sizes by start of all pieces that the source of the slice `node` is cut into along its axis, if they tile it."""
    axis, source = node.attrs["axis"], node.inputs[0].source
    found = sorted({(n.attrs["start"], n.attrs["size"]) for n in program.order if n.op == "slice"
                    and n.inputs[0].source is source and n.attrs["axis"] == axis})
    ends = [start + size for start, size in found]
    tiles = [start for start, _ in found] == [0, *ends[:-1]] and ends[-1] == source.channels[axis]
    return dict(found) if tiles else None
