"""Buffers on a GPU with pinned host arrays beside them."""

from __future__ import annotations

from pixelsnail_infer.errors import EngineError
from pixelsnail_infer.runtime.backends.cuda_device import CudaDevice, CudaError

__all__ = ["CudaBuffer"]


class CudaBuffer:
    """Memory of the device and a host array; `push` and `pull` copy between them.

    A push only starts the copy: the array may be written again when something later was read, as the sampling loop
    does.
    """

    __slots__ = ("_cuda", "array", "memory", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: str, cuda: CudaDevice) -> None:
        self._cuda, self.shape = cuda, shape
        self.array = cuda.pinned(shape, dtype)
        self.memory = cuda.allocate(self.array.nbytes)

    def push(self) -> None:
        """Start to copy the host array to the device."""
        try:
            self._cuda.upload(self.array, self.memory)
        except CudaError as error:
            raise EngineError(f"Copying to the GPU failed ({error}); load the model again.") from error

    def pull(self) -> None:
        """Copy the device memory to the host array, when all work before is done."""
        try:
            self._cuda.download(self.memory, self.array)
            self._cuda.wait()
        except CudaError as error:
            raise EngineError(f"Copying from the GPU failed ({error}); load the model again.") from error
