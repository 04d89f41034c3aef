"""Lattices: where a value of a stride lives on the canvas.

A value of stride `(sy, sx)` is computed at the pixels whose row is a multiple of `sy` and whose column is one of `sx`,
its *live* pixels, and *held* everywhere else: at pixel p it is what it was at the live pixel `floored(p)`. A *cell* is
a live pixel in units of the stride: `(row // sy, column // sx)`.
"""

from __future__ import annotations

__all__ = ["Offset", "cell", "ceiled", "cells", "divides", "floored", "is_live", "times"]

Offset = tuple[int, int]


def cells(canvas: Offset, stride: Offset) -> Offset:
    """How many rows and columns of cells a canvas of so many pixels has; its stride divides it."""
    return canvas[0] // stride[0], canvas[1] // stride[1]


def is_live(place: Offset, stride: Offset) -> bool:
    """Whether a value of this stride is computed at the pixel."""
    return place[0] % stride[0] == 0 and place[1] % stride[1] == 0


def floored(place: Offset, stride: Offset) -> Offset:
    """The live pixel that a pixel (or an offset) belongs to."""
    return place[0] - place[0] % stride[0], place[1] - place[1] % stride[1]


def ceiled(place: Offset, stride: Offset) -> Offset:
    """The first live pixel that is not before `place`."""
    return place[0] + -place[0] % stride[0], place[1] + -place[1] % stride[1]


def cell(place: Offset, stride: Offset) -> Offset:
    """A pixel or an offset in units of the stride, rounded down."""
    return place[0] // stride[0], place[1] // stride[1]


def times(place: Offset, stride: Offset) -> Offset:
    """Cells as pixels, or one stride on top of another."""
    return place[0] * stride[0], place[1] * stride[1]


def divides(finer: Offset, coarser: Offset) -> bool:
    """Whether every live pixel of the `coarser` stride is one of the `finer` stride."""
    return coarser[0] % finer[0] == 0 and coarser[1] % finer[1] == 0
