"""PyTorch on CUDA: every part a CUDA graph over buffers on the device. Written to PyTorch's documentation and **not yet
run on a GPU**; the tests run it with a stand-in for the stream.

Everything goes through one stream, in order: the host waits only where it reads (`pull`). So an array may be written
again only when something later was read, as the sampling loop does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsnail_infer.errors import BackendError, EngineError
from pixelsnail_infer.runtime.backends.protocol import BoundGraph, Buffer, Graph, Sweep
from pixelsnail_infer.runtime.backends.torch_cpu import (
    DTYPES,
    TorchBackend,
    TorchGraph,
    keep,
    last_of,
    plainly,
    tensors_of,
)
from pixelsnail_infer.runtime.files.graphfile import GraphFile

WARM_UPS = 2  # runs before a capture, in which libraries choose kernels and allocate


class Queue(Protocol):
    """A device, and the one stream on which all work is done."""

    place: torch.device

    def here(self) -> AbstractContextManager[Any]:
        """Work inside goes to the stream."""

    def wait(self) -> None:
        """Wait for all work so far."""

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """What does this work again, in one launch."""
        ...


class CudaQueue:
    """A stream of a GPU of its own."""

    def __init__(self, place: torch.device) -> None:
        self.place = place
        self.stream: Any = torch.cuda.Stream(place)

    def here(self) -> AbstractContextManager[Any]:
        """Work inside goes to the stream."""
        return torch.cuda.stream(self.stream)

    def wait(self) -> None:
        """Wait for all work so far."""
        self.stream.synchronize()

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """A CUDA graph of this work, which is not done yet."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            work()
        replay: Callable[[], None] = graph.replay
        return replay


class TorchCudaBackend(TorchBackend):
    """Archives on one GPU, "cuda" (the first) or "cuda:1" and so on: of float32 in full (TF32 is switched off), or of
    half precision."""

    def __init__(self, device: str, threads: int | None = None, queue: Queue | None = None) -> None:
        super().__init__(threads)
        self.device = device
        self._queue = queue or CudaQueue(_gpu(device))
        self.place = self._queue.place

    def sweep(self, step: BoundGraph, column: Buffer, pixel: Buffer, width: int) -> Sweep:
        """The device counts the columns and keeps the pixels; the host waits once a row."""
        assert isinstance(step, CapturedGraph) and isinstance(column, DeviceBuffer) and isinstance(pixel, DeviceBuffer)
        return DeviceSweep(step, column, pixel, width)

    def _graph(self, module: Any, file: GraphFile) -> Graph:
        return CudaTorchGraph(module, file, self.threads, self._queue)

    def _buffer(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        return DeviceBuffer(shape, dtype, self._queue)


class DeviceBuffer:
    """A tensor on the device and a pinned host array; `push` and `pull` copy between them."""

    __slots__ = ("_host", "_queue", "array", "tensor")

    def __init__(self, shape: tuple[int, ...], dtype: str, queue: Queue) -> None:
        self._queue = queue
        self._host = torch.zeros(shape, dtype=DTYPES[dtype], pin_memory=queue.place.type == "cuda")
        bits = self._host.view(torch.uint16) if dtype == "bfloat16" else self._host
        self.array = bits.numpy()
        with queue.here():
            self.tensor = torch.zeros(shape, dtype=DTYPES[dtype], device=queue.place)

    def push(self) -> None:
        """Start to copy the host array to the device."""
        with _told("Copying to the device failed"), self._queue.here():
            self.tensor.copy_(self._host, non_blocking=True)

    def pull(self) -> None:
        """Copy the device memory to the host array, when all work before is done."""
        with _told("Copying from the device failed"):
            with self._queue.here():
                self._host.copy_(self.tensor, non_blocking=True)
            self._queue.wait()


class CudaTorchGraph(TorchGraph):
    """One part of an archive, captured once for every batch size."""

    def __init__(self, module: Any, file: GraphFile, threads: int | None, queue: Queue) -> None:
        super().__init__(module, file, threads)
        self._queue = queue

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> BoundGraph:
        """Warm up on copies of what is written, whose states may hold something. Raises `EngineError`."""
        taken, given = tensors_of(inputs, self.inputs), tensors_of(outputs, self.outputs)
        with _told(self._where), torch.inference_mode(), plainly(), exactly():
            with self._queue.here():
                copies = {tensor.data_ptr(): tensor.clone() for tensor in given}
                for _ in range(WARM_UPS):
                    results = self._module(*(copies.get(tensor.data_ptr(), tensor) for tensor in taken))
                    keep(results, [copies[tensor.data_ptr()] for tensor in given])
            self._queue.wait()
            del copies, results
        return CapturedGraph(lambda: keep(self._module(*taken), given), self._queue, self._where)


class CapturedGraph:
    """A warm part, captured when it first runs. `work` does its work, and keeps the tensors alive whose addresses the
    capture holds."""

    __slots__ = ("_replay", "queue", "where", "work")

    def __init__(self, work: Callable[[], None], queue: Queue, where: str) -> None:
        self.work, self.queue, self.where = work, queue, where
        self._replay: Callable[[], None] | None = None

    def run(self) -> None:
        """Start a run on the bound buffers. Raises `EngineError`; some failures show only at a later `pull`."""
        if self._replay is None:
            self._replay = captured(self.work, self.queue, self.where)
        with _told(self.where), torch.inference_mode(), plainly(), self.queue.here():
            self._replay()


class DeviceSweep:
    """A step that keeps its pixel and counts its column on, captured as one."""

    def __init__(self, step: CapturedGraph, column: DeviceBuffer, pixel: DeviceBuffer, width: int) -> None:
        self._queue, self._where, self._width, self._column = step.queue, step.where, width, column.tensor
        shape = (width, *pixel.tensor.shape)
        self._pixels = DeviceBuffer(shape, str(pixel.array.dtype), step.queue)

        def work() -> None:
            step.work()
            self._pixels.tensor.index_copy_(0, column.tensor, pixel.tensor.unsqueeze(0))
            column.tensor.add_(1)

        self._replay = captured(work, step.queue, step.where)

    def draw(self) -> NDArray[Any]:
        """See `protocol.Sweep`."""
        with _told(self._where), torch.inference_mode(), plainly(), self._queue.here():
            self._column.zero_()
            for _ in range(self._width):
                self._replay()
            self._column.zero_()  # no capture of another part may find a column that is none
        self._pixels.pull()
        return np.moveaxis(self._pixels.array, 0, 1).copy()


def captured(work: Callable[[], None], queue: Queue, where: str) -> Callable[[], None]:
    """What does this work again, in one launch and in full float32. Raises `EngineError`."""
    with _told(f"{where}, as it was captured"), torch.inference_mode(), plainly(), exactly():
        return queue.captured(work)


@contextmanager
def exactly() -> Iterator[None]:
    """Full float32 inside, and sums in it where products are of half precision, whatever the process has set: a
    captured graph keeps what was chosen."""
    places: tuple[tuple[Any, str], ...] = (
        (torch.backends.cuda.matmul, "allow_tf32"), (torch.backends.cudnn, "allow_tf32"),
        (torch.backends.cuda.matmul, "allow_fp16_reduced_precision_reduction"),
        (torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction"),
    )  # fmt: skip
    before = [getattr(place, name) for place, name in places]
    try:
        for place, name in places:
            setattr(place, name, False)
        yield
    finally:
        for (place, name), value in zip(places, before, strict=True):
            setattr(place, name, value)


@contextmanager
def _told(where: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise EngineError(f"{where} ({last_of(error)}); load the model again.") from error


def _gpu(device: str) -> torch.device:
    """The GPU of this name. Raises `BackendError` when it is not there."""
    index = int(device.partition(":")[2] or 0)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        raise BackendError(
            f"device is {device!r}, but PyTorch {torch.__version__} sees {count} GPUs; install a PyTorch that is built "
            "for CUDA and a driver, or use device='cpu'."
        )
    return torch.device("cuda", index)
