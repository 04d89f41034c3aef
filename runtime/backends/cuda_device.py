"""A GPU by CUDA's own Python package, `cuda-bindings`: memory, one stream, and graphs of work on it. Written to the
package's documentation and **not yet run on a GPU**; the tests run it with a stand-in for the package."""

from __future__ import annotations

import ctypes
import gc
import importlib
import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.errors import BackendError

__all__ = ["CudaDevice", "CudaError", "DeviceMemory"]

_RUNTIME = "cuda.bindings.runtime"


class CudaError(Exception):
    """A call that CUDA refused: its name and what CUDA says."""


class DeviceMemory:
    """Memory of the device, freed when this object goes. Mutable by whoever has the address."""

    __slots__ = ("__weakref__", "address", "size")

    def __init__(self, address: int, size: int) -> None:
        self.address, self.size = address, size


class CudaDevice:
    """The GPU "cuda" (the first) or "cuda:1" and so on, and one stream of its own, on which all work is done in order.
    Copies only start: `wait` waits for them.

    `capability` is such as "8.9"; `stream` is the handle, for those who put work on the stream themselves. Any thread
    may call, two may not at once. Methods raise `CudaError`. Raises `BackendError` when the GPU or the package is not
    there; `runtime` is for tests, in place of the package.
    """

    def __init__(self, device: str, runtime: Any = None) -> None:
        self._cuda = runtime or _runtime()
        self._index = int(device.partition(":")[2] or 0)
        self._expect_gpu(device)
        try:
            with self.here():
                self.name, self.capability = self._described()
                self._stream = self._do("cudaStreamCreateWithFlags", self._cuda.cudaStreamNonBlocking)
        except CudaError as error:
            raise BackendError(f"device is {device!r}, but CUDA cannot use it ({error}).") from error
        self.stream = int(self._stream)
        self._when_gone(self, "cudaStreamDestroy", self._stream)

    @contextmanager
    def here(self) -> Iterator[None]:
        """Inside, the GPU is the calling thread's; afterwards the one that was."""
        before = self._do("cudaGetDevice")
        if before == self._index:
            yield
            return
        self._do("cudaSetDevice", self._index)
        try:
            yield
        finally:
            self._do("cudaSetDevice", before)

    def allocate(self, size: int) -> DeviceMemory:
        """Memory, zero-filled in its turn on the stream."""
        with self.here():
            address = int(self._do("cudaMalloc", max(1, size)))
            memory = DeviceMemory(address, size)
            self._when_gone(memory, "cudaFree", address)
            self._do("cudaMemsetAsync", address, 0, size, self._stream)
        return memory

    def pinned(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """A zero-filled host array in memory that the system does not move."""
        kind, count = np.dtype(dtype), math.prod(shape)
        size = max(1, count * kind.itemsize)
        with self.here():
            address = int(self._do("cudaMallocHost", size))
        raw = (ctypes.c_uint8 * size).from_address(address)
        self._when_gone(raw, "cudaFreeHost", address)  # every array over it keeps it
        array: NDArray[Any] = np.frombuffer(memoryview(raw), kind, count).reshape(shape)
        array.fill(0)
        return array

    def upload(self, array: NDArray[Any], memory: DeviceMemory) -> None:
        """Start to copy a pinned array to the device."""
        self._copy(memory.address, array.ctypes.data, array.nbytes, "cudaMemcpyHostToDevice")

    def download(self, memory: DeviceMemory, array: NDArray[Any]) -> None:
        """Start to copy from the device to a pinned array."""
        self._copy(array.ctypes.data, memory.address, array.nbytes, "cudaMemcpyDeviceToHost")

    def copy(self, source: DeviceMemory, target: DeviceMemory) -> None:
        """Start to copy from memory to other memory of the same size."""
        self._copy(target.address, source.address, source.size, "cudaMemcpyDeviceToDevice")

    def wait(self) -> None:
        """Wait for all work so far."""
        with self.here():
            self._do("cudaStreamSynchronize", self._stream)

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """A CUDA graph of this work, which is not done yet. Work of other threads is no part of it."""
        with self.here(), _uncollected():
            self._do("cudaStreamBeginCapture", self._stream,
                     self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)  # fmt: skip
            try:
                work()
            except BaseException:
                self._cuda.cudaStreamEndCapture(self._stream)  # what was captured is lost; the first error counts
                raise
            graph = self._do("cudaStreamEndCapture", self._stream)
            try:
                ready = self._do("cudaGraphInstantiate", graph, 0)
            finally:
                self._do("cudaGraphDestroy", graph)

        def launch() -> None:
            with self.here():
                self._do("cudaGraphLaunch", ready, self._stream)

        self._when_gone(launch, "cudaGraphExecDestroy", ready)
        return launch

    def _copy(self, target: int, source: int, size: int, kind: str) -> None:
        with self.here():
            self._do("cudaMemcpyAsync", target, source, size, getattr(self._cuda.cudaMemcpyKind, kind), self._stream)

    def _do(self, name: str, *arguments: Any) -> Any:
        """Call a function of CUDA; its result. All of them give a tuple that begins with an error code."""
        error, *results = getattr(self._cuda, name)(*arguments)
        if error != self._cuda.cudaError_t.cudaSuccess:
            raise CudaError(f"{name}: {_text(self._cuda, error)}")
        return results[0] if results else None

    def _when_gone(self, owner: Any, name: str, handle: Any) -> None:
        """Release a handle with its owner; not at the end of the process, when CUDA may be gone."""
        weakref.finalize(owner, _release, self._cuda, self._index, name, handle).atexit = False

    def _expect_gpu(self, device: str) -> None:
        error, count = self._cuda.cudaGetDeviceCount()
        if error != self._cuda.cudaError_t.cudaSuccess or self._index >= count:
            says = f" ({_text(self._cuda, error)})" if error != self._cuda.cudaError_t.cudaSuccess else ""
            raise BackendError(
                f"device is {device!r}, but CUDA sees {count or 0} GPUs{says}; install an NVIDIA driver, or use "
                "device='cpu' with another backend."
            )

    def _described(self) -> tuple[str, str]:
        kinds = self._cuda.cudaDeviceAttr
        parts = [self._do("cudaDeviceGetAttribute", kind, self._index)
                 for kind in (kinds.cudaDevAttrComputeCapabilityMajor, kinds.cudaDevAttrComputeCapabilityMinor)]
        name = self._do("cudaGetDeviceProperties", self._index).name
        return name.decode(errors="replace").strip("\0 "), ".".join(map(str, parts))


def _release(cuda: Any, index: int, name: str, handle: Any) -> None:
    """Release a handle when nothing uses it any more. Errors have nowhere to go: those of work show where it is waited
    for."""
    _, before = cuda.cudaGetDevice()
    cuda.cudaSetDevice(index)
    cuda.cudaDeviceSynchronize()
    getattr(cuda, name)(handle)
    cuda.cudaSetDevice(before)


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage is collected inside: memory that was released during a capture would spoil it."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _text(cuda: Any, error: Any) -> str:
    _, said = cuda.cudaGetErrorString(error)
    return said.decode(errors="replace") if isinstance(said, bytes) else str(error)


def _runtime() -> Any:
    try:
        return importlib.import_module(_RUNTIME)
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendError(
            f"CUDA's Python package cannot be imported ({error}); install 'cuda-bindings', or one of the extras "
            "'pixelsnail-infer[tensorrt]' and 'pixelsnail-infer[tensorrt-rtx]', which bring it."
        ) from error
