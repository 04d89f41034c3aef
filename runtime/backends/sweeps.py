"""A step at every column of a row, one after the other, as an engine does it that the host feeds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.runtime.backends.protocol import BoundGraph, Buffer


class StepByStep:
    """The host writes every column and reads every pixel."""

    __slots__ = ("_column", "_pixel", "_run", "_width")

    def __init__(self, step: BoundGraph, column: Buffer, pixel: Buffer, width: int) -> None:
        self._run, self._column, self._pixel, self._width = step.run, column, pixel, width

    def draw(self) -> NDArray[Any]:
        """See `protocol.Sweep`."""
        run, column, pixel = self._run, self._column, self._pixel
        slots, *channels = pixel.array.shape
        pixels = np.empty((slots, self._width, *channels), pixel.array.dtype)
        for j in range(self._width):
            column.array[0] = j
            column.push()
            run()
            pixel.pull()
            pixels[:, j] = pixel.array
        return pixels
