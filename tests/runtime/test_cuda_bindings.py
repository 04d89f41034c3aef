"""The real `cuda-bindings` takes every call as it is made: without a GPU it fails at each, but looks at the arguments
before. Results come from the stand-in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.runtime.backends.cuda_buffer import CudaBuffer
from pixelsnail_infer.runtime.backends.cuda_device import CudaDevice

from .fake_cuda import STREAM, Copy, FakeCuda

pytestmark = pytest.mark.full
real = pytest.importorskip("cuda.bindings.runtime", reason="needs the tensorrt-rtx extra (make test-full)")

USED = {
    "cudaGetDeviceCount", "cudaGetDevice", "cudaSetDevice", "cudaDeviceGetAttribute", "cudaGetDeviceProperties",
    "cudaStreamCreateWithFlags", "cudaMalloc", "cudaMemsetAsync", "cudaMallocHost", "cudaMemcpyAsync",
    "cudaStreamSynchronize", "cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate",
    "cudaGraphDestroy", "cudaGraphLaunch", "cudaDeviceSynchronize", "cudaGraphExecDestroy", "cudaFree",
    "cudaFreeHost", "cudaStreamDestroy",
}  # fmt: skip


class Both(FakeCuda):
    """The stand-in, after the real package has seen the call."""

    cudaStreamCaptureMode = real.cudaStreamCaptureMode
    cudaDeviceAttr = real.cudaDeviceAttr
    cudaStreamNonBlocking = real.cudaStreamNonBlocking

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name not in USED:
            return value

        def call(*given: Any) -> Any:
            self.seen.add(name)
            words = [getattr(real.cudaMemcpyKind, x.name) if isinstance(x, Copy) else x for x in given]
            error = getattr(real, name)(*words)[0]
            assert isinstance(error, real.cudaError_t) and error != real.cudaError_t.cudaSuccess
            return value(*given)

        return call

    def cudaDeviceGetAttribute(self, which: Any, index: int) -> Any:
        return super().cudaDeviceGetAttribute(int("Minor" in which.name), index)


def test_the_real_package_takes_every_call() -> None:
    if real.cudaGetDeviceCount()[0] == real.cudaError_t.cudaSuccess:
        pytest.skip("this machine has a GPU, which the stand-in's addresses would confuse")
    both = Both()
    use_everything(both)
    assert both.seen == USED and not both.memory and not both.ready


def use_everything(both: Both) -> None:
    device = CudaDevice("cuda:1", both)
    buffer, other = CudaBuffer((2, 3), "int64", device), CudaBuffer((2, 3), "int64", device)
    buffer.array[...] = np.arange(6).reshape(2, 3)
    buffer.push()
    device.captured(lambda: device.copy(buffer.memory, other.memory))()
    other.pull()
    assert other.array.tolist() == [[0, 1, 2], [3, 4, 5]] and device.stream == STREAM


def test_its_errors_are_in_words() -> None:
    error = real.cudaError_t.cudaErrorNoDevice
    assert real.cudaGetErrorString(error) == (real.cudaError_t.cudaSuccess, b"no CUDA-capable device is detected")
