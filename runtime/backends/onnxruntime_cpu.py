"""ONNX Runtime on the CPU: buffers are NumPy memory that the graphs read and write directly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from pixelsnail_infer.errors import BackendError, EngineError, GraphFileError
from pixelsnail_infer.plan import DEFAULT_PLAN, INT8_PLAN, Plan
from pixelsnail_infer.runtime.backends.host import (
    aligned_zeros,
    beginning_of,
    check_threads,
    no_room,
    reason_of,
    usable_cores,
)
from pixelsnail_infer.runtime.backends.protocol import BoundGraph, Buffer, Graph, Sweep, TensorInfo
from pixelsnail_infer.runtime.backends.sweeps import StepByStep
from pixelsnail_infer.runtime.files.graphfile import GraphFile

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64", "tensor(bool)": "bool"}


class CpuBackend:
    """Sessions on the CPU execution provider, each with `threads` intra-op threads (None: one per usable core).

    Threads do not spin while they wait, so an idle sampler costs nothing. With one thread an image's logits are the
    same bits in every slot and batch where each width that is activated is a multiple of 8; elsewhere they differ by
    about 5e-7 of their standard deviation, because the engine takes exp of a tensor's last few numbers in another way.

    Half precision runs here for checking only: the engine has few kernels of it and casts to float32 and back.
    """

    device = "cpu"
    plans: tuple[Plan, ...] = (DEFAULT_PLAN, Plan(precision="float16"), INT8_PLAN)
    providers: tuple[Any, ...] = ("CPUExecutionProvider",)

    def __init__(self, threads: int | None = None) -> None:
        check_threads(threads)
        self.threads = usable_cores() if threads is None else threads

    def load(self, file: GraphFile) -> Graph:
        """Create the session. Warnings of the engine are shown; a fallback to another device is an error."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 2
        # Within one run the threads wait for the next node awake, which halves a step's time; they sleep between runs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.add_session_config_entry("session.load_model_format", "ONNX")
        source = file.source if isinstance(file.source, bytes) else str(file.source)
        try:
            # Without fallback, too, because before it the engine's Python part prints what failed.
            session = ort.InferenceSession(source, options, providers=list(self.providers), enable_fallback=0)
        except Exception as error:  # the engine raises a class of its own for every status code
            raise GraphFileError(
                f"{file.name} cannot be loaded by ONNX Runtime {ort.__version__} ({reason_of(error)}); "
                "install the version that the README names, or export the checkpoint again."
            ) from error
        wanted = self.providers[0] if isinstance(self.providers[0], str) else self.providers[0][0]
        if session.get_providers()[0] != wanted:
            raise BackendError(f"ONNX Runtime fell back to {session.get_providers()[0]}, expected {wanted}.")
        return OrtGraph(session, file)

    def sweep(self, step: BoundGraph, column: Buffer, pixel: Buffer, width: int) -> Sweep:
        """The host writes columns and reads pixels."""
        return StepByStep(step, column, pixel, width)

    def allocate(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        """A zero-filled buffer over aligned NumPy memory. Raises `EngineError` when there is not enough."""
        try:
            return self._buffer(shape, dtype)
        except Exception as error:  # NumPy's or the engine's
            raise no_room(shape, dtype, self.device, error) from error

    def first(self, buffer: CpuBuffer, count: int) -> Buffer:
        """The first `count` entries along axis 0, in the buffer's memory."""
        return CpuBuffer.over(buffer.array[:count])

    def _buffer(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        return CpuBuffer(shape, dtype)


class CpuBuffer:
    """NumPy memory with an `OrtValue` over it: new memory, or the beginning of `memory`."""

    __slots__ = ("array", "value")

    def __init__(self, shape: tuple[int, ...], dtype: str, memory: NDArray[Any] | None = None) -> None:
        self._over(aligned_zeros(shape, dtype) if memory is None else beginning_of(memory, shape))

    def prefix(self, size: int) -> CpuBuffer:
        """See `protocol.Sliceable`."""
        part = CpuBuffer.__new__(CpuBuffer)
        part._over(self.array[:size])
        return part

    def _over(self, array: NDArray[Any]) -> None:
        self.array = array
        self.value = ort.OrtValue.ortvalue_from_numpy(array)

    def beginning(self, shape: tuple[int, ...]) -> CpuBuffer:
        """See `protocol.GrowingBuffer`."""
        return CpuBuffer(shape, str(self.array.dtype), self.array)

    @classmethod
    def over(cls, array: NDArray[Any]) -> CpuBuffer:
        """A buffer over memory that is there already, contiguous."""
        made = cls.__new__(cls)
        made.array, made.value = array, ort.OrtValue.ortvalue_from_numpy(array)
        return made

    def push(self) -> None:
        """Nothing to do: the graphs read this memory."""

    def pull(self) -> None:
        """Nothing to do: the graphs write this memory."""


class OrtGraph:
    """One session with its signature."""

    def __init__(self, session: ort.InferenceSession, file: GraphFile) -> None:
        self._session = session
        self._where = f"{file.name}: ONNX Runtime failed in the {file.what}"
        self.inputs = {item.name: _info(item, file.name) for item in session.get_inputs()}
        self.outputs = {item.name: _info(item, file.name) for item in session.get_outputs()}

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> BoundGraph:
        """Bind by name once; nothing is bound again until the batch size changes."""
        binding = self._binding(inputs, outputs)
        # A graph with states may warn that one is not written in place; and it runs at every pixel, without options.
        options = None if any(f"{name}.out" in self.outputs for name in self.inputs) else _silent()
        return OrtBoundGraph(self._session, binding, options, self._where)

    def _binding(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> ort.IOBinding:
        try:
            binding = self._session.io_binding()
            for name in self.inputs:
                binding.bind_ortvalue_input(name, inputs[name].value)  # type: ignore[attr-defined]
            for name in self.outputs:
                binding.bind_ortvalue_output(name, outputs[name].value)  # type: ignore[attr-defined]
        except Exception as error:
            raise EngineError(f"{self._where}, as its buffers were bound ({reason_of(error)}).") from error
        return binding


class OrtBoundGraph:
    """A session and a binding; keeps both, and through the binding the buffers, alive."""

    __slots__ = ("_binding", "_options", "_run", "_where")

    def __init__(
        self, session: ort.InferenceSession, binding: ort.IOBinding, options: ort.RunOptions | None, where: str
    ) -> None:
        self._binding = binding
        self._run = session.run_with_iobinding
        self._options = options
        self._where = where

    def run(self) -> None:
        """Run once on the bound buffers. Raises `EngineError`; the session can run again afterwards."""
        try:
            self._run(self._binding, self._options)
        except Exception as error:  # the engine raises a class of its own for every status code
            raise EngineError(
                f"{self._where} ({reason_of(error)}). This call gave nothing; the next one starts afresh."
            ) from error


def _silent() -> ort.RunOptions:
    """Options of a run whose failure is raised, and need not be printed, too."""
    options = ort.RunOptions()
    options.log_severity_level = 4
    options.add_run_config_entry("gpu_graph_id", "0")  # the default; to look for it in vain takes 30 microseconds
    return options


def _info(item: Any, name: str) -> TensorInfo:
    if item.type not in _DTYPES:
        expected = "float32, float16, int64 or bool"
        raise GraphFileError(f"{name}: {item.name!r} is {item.type}, expected {expected}; export the checkpoint again.")
    return TensorInfo(_DTYPES[item.type], tuple(size if isinstance(size, int) else None for size in item.shape))
