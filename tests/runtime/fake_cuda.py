"""In the place of `cuda.bindings.runtime`: a GPU whose memory is NumPy's, and whose stream does nothing until somebody
waits. Everything that CUDA would not forgive is an error here: unknown addresses, too long copies, use after release.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

OK, BROKEN = SimpleNamespace(name="cudaSuccess"), SimpleNamespace(name="broken")
STREAM = 77


class Copy(Enum):
    cudaMemcpyHostToDevice = ("host", "device")
    cudaMemcpyDeviceToHost = ("device", "host")
    cudaMemcpyDeviceToDevice = ("device", "device")


class FakeCuda:
    """The functions that are used, each with a tuple for a result that begins with an error code."""

    cudaError_t = SimpleNamespace(cudaSuccess=OK)
    cudaMemcpyKind = Copy
    cudaStreamNonBlocking = 1
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaDeviceAttr = SimpleNamespace(cudaDevAttrComputeCapabilityMajor=0, cudaDevAttrComputeCapabilityMinor=1)

    def __init__(self, capability: tuple[int, int] = (8, 9), gpus: int = 2) -> None:
        self.capability, self.gpus, self.current = capability, gpus, 0
        self.memory: dict[int, tuple[str, NDArray[np.uint8]]] = {}
        self.work: list[Callable[[], None]] = []
        self.recording: list[Callable[[], None]] | None = None
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.ready: dict[int, list[Callable[[], None]]] = {}
        self.handles = itertools.count(1000)
        self.launches = self.waits = 0

    # Devices ----------------------------------------------------------------------------------------------------------

    def cudaGetErrorString(self, error: Any) -> tuple[Any, bytes]:
        return OK, b"it is broken"

    def cudaGetDeviceCount(self) -> tuple[Any, int]:
        return OK, self.gpus

    def cudaGetDevice(self) -> tuple[Any, int]:
        return OK, self.current

    def cudaSetDevice(self, index: int) -> tuple[Any]:
        self.current = index
        return (OK,)

    def cudaDeviceGetAttribute(self, which: int, index: int) -> tuple[Any, int]:
        return OK, self.capability[which]

    def cudaGetDeviceProperties(self, index: int) -> tuple[Any, Any]:
        return OK, SimpleNamespace(name=b"Fake GPU 9\0")

    # Memory -----------------------------------------------------------------------------------------------------------

    def _new(self, kind: str, size: int) -> tuple[Any, int]:
        array = np.full(size + 256, 0xAB, np.uint8)
        start = -array.ctypes.data % 256
        held = array[start : start + size]
        self.memory[held.ctypes.data] = kind, held
        return OK, held.ctypes.data

    def cudaMalloc(self, size: int) -> tuple[Any, int]:
        return self._new("device", size)

    def cudaMallocHost(self, size: int) -> tuple[Any, int]:
        return self._new("host", size)

    def cudaFree(self, address: int) -> tuple[Any]:
        assert self.memory.pop(address)[0] == "device"
        return (OK,)

    def cudaFreeHost(self, address: int) -> tuple[Any]:
        assert self.memory.pop(address)[0] == "host"
        return (OK,)

    def held(self, address: int, size: int, kind: str) -> NDArray[np.uint8]:
        """The memory at an address, or within such memory, which must be there, of this kind, and long enough."""
        begin = max((begin for begin in self.memory if begin <= address), default=address)
        found, array = self.memory[begin]
        assert found == kind and address - begin + size <= array.nbytes
        return array[address - begin : address - begin + size]

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: Copy, stream: int) -> tuple[Any]:
        taken, given = kind.value

        def copy() -> None:
            self.held(target, size, given)[...] = self.held(source, size, taken)

        return self.enqueue(copy, stream)

    def cudaMemsetAsync(self, address: int, value: int, size: int, stream: int) -> tuple[Any]:
        return self.enqueue(lambda: self.held(address, size, "device").fill(value), stream)

    # The stream and graphs --------------------------------------------------------------------------------------------

    def enqueue(self, work: Callable[[], None], stream: int) -> tuple[Any]:
        assert stream == STREAM
        (self.work if self.recording is None else self.recording).append(work)
        return (OK,)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, int]:
        return OK, STREAM

    def cudaStreamDestroy(self, stream: int) -> tuple[Any]:
        assert stream == STREAM
        return (OK,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any]:
        assert stream == STREAM and self.recording is None
        self.waits += 1
        return self.cudaDeviceSynchronize()

    def cudaDeviceSynchronize(self) -> tuple[Any]:
        while self.work:
            self.work.pop(0)()
        return (OK,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[Any]:
        assert stream == STREAM and self.recording is None
        self.recording = []
        return (OK,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Any, int]:
        assert stream == STREAM and self.recording is not None
        handle = next(self.handles)
        self.graphs[handle], self.recording = self.recording, None
        return OK, handle

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Any, int]:
        self.ready[handle := next(self.handles)] = self.graphs[graph]
        return OK, handle

    def cudaGraphDestroy(self, graph: int) -> tuple[Any]:
        del self.graphs[graph]
        return (OK,)

    def cudaGraphExecDestroy(self, graph: int) -> tuple[Any]:
        del self.ready[graph]
        return (OK,)

    def cudaGraphLaunch(self, graph: int, stream: int) -> tuple[Any]:
        self.launches += 1
        for work in self.ready[graph]:
            self.enqueue(work, stream)
        return (OK,)


def refuse(*given: Any) -> tuple[Any, None]:
    """A function that fails."""
    return BROKEN, None
