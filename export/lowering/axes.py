"""What the dimensions of a view stand for, also where they have one element.

An axis of one element can stand anywhere: a row axis on a canvas of one row, the key axis of a single key, a channel
axis of width 1. Views keep such an axis where it was last seen, as a hint, or not at all; what an operation takes a
dimension for is decided here, from its larger axes, the view's frame, and only then from hints. A wrong hint costs a
refusal, never a number: whichever name an axis of one element has, the values are the same.
"""

from __future__ import annotations

import math
from dataclasses import replace

from pixelsnail_infer.export.lowering.views import Atom, Dim, View, size_of

__all__ = ["as_map", "kinds_of", "largest", "position_axis", "solid", "spans_keys", "spans_positions", "with_axes"]


def solid(dim: Dim) -> Dim:
    """The axes of a dimension that have more than one element, and the batch."""
    return tuple(a for a in dim if a.size > 1 or a.kind == "b")


def kinds_of(dim: Dim) -> list[str]:
    """The kinds of the larger axes of a dimension."""
    return [a.kind for a in solid(dim)]


def position_axis(view: View, axis: int) -> int | None:
    """0 where dimension `axis` stands for rows, 1 for columns, None for anything else."""
    if view.frame is None:
        return None
    axis %= len(view.dims)
    if len(view.dims) == 4 and as_map(view, 2, 3) is not None:  # [B, C, H, W]
        return {2: 0, 3: 1}.get(axis)
    kinds = kinds_of(view.dims[axis])
    if kinds:
        return {"y": 0, "x": 1}.get(kinds[0]) if len(kinds) == 1 else None
    hints = {a.kind for a in view.dims[axis]}
    for place, kind in ((1, "x"), (0, "y")):
        if kind in hints and view.frame[place] == 1:
            return place
    return None


def as_map(view: View, rows: int, columns: int) -> View | None:
    """The view with dimension `rows` as its rows and `columns` as its columns, None where they are something else."""
    if view.frame is None:
        return None
    for axis, kind, size in ((rows, "y", view.frame[0]), (columns, "x", view.frame[1])):
        if kinds_of(view.dims[axis]) != ([kind] if size > 1 else []):
            return None
    return replace(view, dims=with_axes(view.dims, (rows, columns), view.frame))


def with_axes(dims: tuple[Dim, ...], axes: tuple[int | None, int | None], frame: tuple[int, int]) -> tuple[Dim, ...]:
    """The dims with the row and the column axis of sizes `frame` in the dimensions `axes` (None: where they are)."""
    for kind, axis, size in zip("yx", axes, frame, strict=True):
        if axis is None:
            continue
        axis %= len(dims)
        dims = tuple(tuple(a for a in d if a.kind != kind) for d in dims)
        before = tuple(a for a in dims[axis] if kind == "x" or a.kind != "x")
        after = tuple(a for a in dims[axis] if kind == "y" and a.kind == "x")
        dims = (*dims[:axis], (*before, Atom(kind, size), *after), *dims[axis + 1:])
    return dims


def spans_positions(view: View, axis: int) -> bool:
    """Whether dimension `axis` is all of the view's positions in raster order."""
    return view.frame is not None and _spans(view.dims[axis], "yx", view.frame)


def spans_keys(view: View, axis: int) -> bool:
    """Whether dimension `axis` is all keys of attention scores or weights."""
    return view.node.keys is not None and _spans(view.dims[axis], "YX", view.node.keys)


def _spans(dim: Dim, kinds: str, sizes: tuple[int, int]) -> bool:
    wanted = [kind for kind, size in zip(kinds, sizes, strict=True) if size > 1]
    return kinds_of(dim) == wanted and size_of(dim) == math.prod(sizes)


def largest(frames: list[tuple[int, int] | None]) -> tuple[int, int] | None:
    """The frame that the others broadcast to, None where there is none."""
    given = [frame for frame in frames if frame is not None]
    return max(given, key=math.prod) if given else None
