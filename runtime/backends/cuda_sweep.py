"""A step at every column of a row on a GPU: columns and pixels stay there until the row is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.errors import EngineError
from pixelsnail_infer.runtime.backends.cuda_buffer import CudaBuffer
from pixelsnail_infer.runtime.backends.cuda_device import CudaDevice, CudaError, DeviceMemory
from pixelsnail_infer.runtime.backends.protocol import BoundGraph

__all__ = ["CudaSweep"]


class CudaSweep:
    """Between two steps the device copies the next column in and the pixel out; the host waits once a row."""

    def __init__(self, step: BoundGraph, column: CudaBuffer, pixel: CudaBuffer, width: int, cuda: CudaDevice) -> None:
        self._step, self._cuda, self._column, self._pixel = step, cuda, column.memory, pixel.memory
        self._columns = CudaBuffer((width,), "int64", cuda)
        self._pixels = CudaBuffer((width, *pixel.shape), str(pixel.array.dtype), cuda)
        self._columns.array[...] = np.arange(width)
        self._columns.push()
        self._places = list(zip(_pieces(self._columns, width), _pieces(self._pixels, width), strict=True))

    def draw(self) -> NDArray[Any]:
        """See `protocol.Sweep`."""
        try:
            for column, pixel in self._places:
                self._cuda.copy(column, self._column)
                self._step.run()
                self._cuda.copy(self._pixel, pixel)
        except CudaError as error:
            raise EngineError(f"Copying on the GPU failed ({error}); load the model again.") from error
        self._pixels.pull()
        return np.moveaxis(self._pixels.array, 0, 1).copy()


def _pieces(buffer: CudaBuffer, count: int) -> list[DeviceMemory]:
    """Its memory in equal pieces, which the buffer must outlive."""
    size = buffer.array.nbytes // count
    return [DeviceMemory(buffer.memory.address + k * size, size) for k in range(count)]
