"""A TensorRT engine as a graph of the runtime: bound to fixed addresses, and captured once for every batch size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pixelsnail_infer.errors import EngineError, GraphFileError
from pixelsnail_infer.runtime.backends.cuda_buffer import CudaBuffer
from pixelsnail_infer.runtime.backends.cuda_device import CudaDevice, CudaError, DeviceMemory
from pixelsnail_infer.runtime.backends.host import reason_of
from pixelsnail_infer.runtime.backends.protocol import BoundGraph, Buffer, TensorInfo
from pixelsnail_infer.runtime.backends.tensorrt_package import Package, new_log
from pixelsnail_infer.runtime.files.graphfile import GraphFile

__all__ = ["TensorRtGraph", "open_engine"]

WARM_UPS = 2  # runs before a capture: in the first the engine allocates, and TensorRT for RTX makes its kernels
_DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT64": "int64", "BOOL": "bool"}


class Failure(Exception):
    """TensorRT returned that it has failed."""


def open_engine(package: Package, plan: bytes, file: GraphFile, cuda: CudaDevice) -> TensorRtGraph:
    """The graph of a serialised engine, which must come from a place that is trusted: it is run like a program.

    Raises `GraphFileError` when TensorRT refuses it, or it is not the engine of such a graph.
    """
    log = new_log(package.trt)
    runtime = package.trt.Runtime(log)
    with cuda.here():
        engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise GraphFileError(
            f"{file.name}: {package} cannot load the engine ({log.reason()}); build it again with "
            "'pixelsnail-infer build'."
        )
    return TensorRtGraph(package, engine, (runtime, log), file, cuda)


class TensorRtGraph:
    """A loaded engine with its signature."""

    def __init__(self, package: Package, engine: Any, held: tuple[Any, Any], file: GraphFile, cuda: CudaDevice) -> None:
        self._package, self._engine, self._cuda = package, engine, cuda
        self._runtime, self._log = held  # both must outlive the engine
        self._where = f"{file.name}: TensorRT failed in the {file.what}"
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        taken = package.trt.TensorIOMode.INPUT
        self.inputs = {name: self._info(name, file) for name in names if engine.get_tensor_mode(name) == taken}
        self.outputs = {name: self._info(name, file) for name in names if name not in self.inputs}
        self._check_states(file)

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> BoundGraph:
        """An execution context of its own, warmed up and captured; what it writes is put back, for states may hold
        something. Raises `EngineError`."""
        with self._told(f"{self._where}, as its buffers were bound"), self._cuda.here():
            context, memory = self._context(inputs)
            bound = {name: _buffer(outputs, name) for name in self.outputs}
            self._check_outputs(context, bound)
            for name, buffer in bound.items():
                self._done(context.set_tensor_address(name, buffer.memory.address), f"the address of {name!r}")
            kept = self._copies(bound)
            for _ in range(WARM_UPS):
                self._enqueue(context)
            for source, copy in kept:
                self._cuda.copy(copy, source)
            self._cuda.wait()
            self._expect_capturable(context)
            launch = self._cuda.captured(lambda: self._enqueue(context))
        return CapturedEngine(launch, (self, context, memory, dict(inputs), dict(outputs)), self._where)

    def _context(self, inputs: Mapping[str, Buffer]) -> tuple[Any, DeviceMemory]:
        """A context with its inputs and its scratch memory."""
        config, trt = self._engine.create_runtime_config(), self._package.trt
        config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if self._package.rtx:  # else kernels are made behind one's back, and a capture keeps the slow ones
            eager = trt.DynamicShapesKernelSpecializationStrategy.EAGER
            config.dynamic_shapes_kernel_specialization_strategy = eager
        context = self._engine.create_execution_context(config)
        if context is None:
            raise Failure("there is no context")
        for name in self.inputs:
            buffer = _buffer(inputs, name)
            if not context.set_input_shape(name, buffer.shape):
                largest = self._engine.get_tensor_profile_shape(name, 0)[2]
                raise Failure(f"{name!r} is {list(buffer.shape)}, the engine was built for {list(largest)} at most: "
                              "build it again with a larger --max-batch, or give a smaller max_batch")  # fmt: skip
            self._done(context.set_tensor_address(name, buffer.memory.address), f"the address of {name!r}")
        if missing := context.infer_shapes():
            raise Failure(f"the shape of {missing[0]!r} is not known")
        size = context.update_device_memory_size_for_shapes()
        memory = self._cuda.allocate(size)
        context.set_device_memory(memory.address, size)
        return context, memory

    def _check_outputs(self, context: Any, outputs: Mapping[str, CudaBuffer]) -> None:
        """The engine writes as many numbers as it likes: no buffer may be smaller."""
        for name, buffer in outputs.items():
            if (shape := tuple(context.get_tensor_shape(name))) != buffer.shape:
                raise Failure(f"{name!r} is {list(shape)}, its buffer {list(buffer.shape)}")

    def _copies(self, outputs: Mapping[str, CudaBuffer]) -> list[tuple[DeviceMemory, DeviceMemory]]:
        """Each memory that is written, and a copy of what it holds."""
        written = {buffer.memory.address: buffer.memory for buffer in outputs.values()}
        pairs = [(memory, self._cuda.allocate(memory.size)) for memory in written.values()]
        for memory, copy in pairs:
            self._cuda.copy(memory, copy)
        return pairs

    def _expect_capturable(self, context: Any) -> None:
        """TensorRT for RTX can tell before; of the other one a capture that fails does."""
        if hasattr(context, "is_stream_capturable") and not context.is_stream_capturable(self._cuda.stream):
            raise Failure("its work cannot be captured in a CUDA graph")

    def _enqueue(self, context: Any) -> None:
        self._done(context.execute_async_v3(self._cuda.stream), "its run")

    def _done(self, done: bool, what: str) -> None:
        if not done:
            raise Failure(f"{what} was refused: {self._log.reason()}")

    @contextmanager
    def _told(self, where: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # TensorRT's, CUDA's or a Failure
            raise EngineError(f"{where} ({reason_of(error)}).") from error

    def _info(self, name: str, file: GraphFile) -> TensorInfo:
        kind, place = self._engine.get_tensor_dtype(name).name, self._engine.get_tensor_location(name)
        if kind not in _DTYPES or place != self._package.trt.TensorLocation.DEVICE:
            expected = "float32, float16, int64 or bool on the GPU; export the checkpoint again"
            raise GraphFileError(f"{file.name}: {name!r} is {kind} ({place}), expected {expected}.")
        shape = tuple(self._engine.get_tensor_shape(name))
        return TensorInfo(_DTYPES[kind], tuple(None if size == -1 else size for size in shape))

    def _check_states(self, file: GraphFile) -> None:
        """Raise unless each written state is its input's own memory: that is how it will be bound."""
        for name in self.inputs:
            result = f"{name}.out"
            if result in self.outputs and self._engine.get_aliased_input_tensor(result) != name:
                raise GraphFileError(
                    f"{file.name}: {self._package} does not write {name!r} in place; use the backend onnxruntime, or "
                    "another version of TensorRT."
                )


class CapturedEngine:
    """One batch size's context and its CUDA graph; keeps everything alive whose addresses the graph holds."""

    __slots__ = ("_held", "_launch", "_where")

    def __init__(self, launch: Callable[[], None], held: tuple[Any, ...], where: str) -> None:
        self._launch, self._held, self._where = launch, held, where

    def run(self) -> None:
        """Start a run on the bound buffers. Raises `EngineError`; some failures show only at a later `pull`."""
        try:
            self._launch()
        except CudaError as error:
            raise EngineError(f"{self._where} ({error}); load the model again.") from error


def _buffer(buffers: Mapping[str, Buffer], name: str) -> CudaBuffer:
    buffer = buffers[name]
    assert isinstance(buffer, CudaBuffer)
    return buffer
