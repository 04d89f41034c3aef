"""ONNX Runtime on CUDA: device buffers with host arrays beside them. Written to the engine's documentation, and not yet
part of the tests, which run on machines without a GPU."""

from __future__ import annotations

from typing import Any

import onnxruntime as ort

from pixelsnail_infer.errors import BackendError, EngineError
from pixelsnail_infer.runtime.backends.host import aligned_zeros, reason_of
from pixelsnail_infer.runtime.backends.onnxruntime_cpu import CpuBackend
from pixelsnail_infer.runtime.backends.protocol import Buffer

_PROVIDER = "CUDAExecutionProvider"


class CudaBackend(CpuBackend):
    """Sessions on the CUDA execution provider, in full float32 (TF32 is switched off)."""

    device = "cuda"
    providers: tuple[Any, ...] = ((_PROVIDER, {"use_tf32": "0"}),)

    def __init__(self, threads: int | None = None) -> None:
        super().__init__(threads)
        if _PROVIDER not in ort.get_available_providers():
            raise BackendError(
                f"device is 'cuda', but this ONNX Runtime has only {', '.join(ort.get_available_providers())}; "
                "install onnxruntime-gpu 1.31 or newer in place of onnxruntime, or use device='cpu'."
            )

    def _buffer(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        return CudaBuffer(shape, dtype)


class CudaBuffer:
    """An `OrtValue` on the device with a host array; `push` and `pull` copy between them."""

    __slots__ = ("array", "value")

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self.array = aligned_zeros(shape, dtype)
        self.value = ort.OrtValue.ortvalue_from_numpy(self.array, "cuda", 0)

    def push(self) -> None:
        """Copy the host array to the device, at the same address as before."""
        try:
            self.value.update_inplace(self.array)
        except Exception as error:
            raise EngineError(f"Copying to the device failed ({reason_of(error)}); load the model again.") from error

    def pull(self) -> None:
        """Copy the device memory to the host array."""
        try:
            self.array[...] = self.value.numpy()
        except Exception as error:
            raise EngineError(f"Copying from the device failed ({reason_of(error)}); load the model again.") from error
