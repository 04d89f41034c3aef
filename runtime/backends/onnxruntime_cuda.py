"""ONNX Runtime on CUDA: buffers and states on the device, and what runs at every row and pixel as one CUDA graph.

Written to the engine's documentation and **not yet run on a GPU**; the tests run it with a stand-in for the engine.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np
import onnxruntime

from pixelsnail_infer.document import kind_of
from pixelsnail_infer.errors import BackendError, EngineError, GraphFileError
from pixelsnail_infer.manifest import METADATA_KEY, PART_KEY
from pixelsnail_infer.plan import DEFAULT_PLAN, Plan
from pixelsnail_infer.runtime.backends.host import aligned_zeros, reason_of
from pixelsnail_infer.runtime.backends.onnxruntime_cpu import CpuBackend, OrtBoundGraph, OrtGraph
from pixelsnail_infer.runtime.backends.onnxruntime_replay import ReplayedGraph
from pixelsnail_infer.runtime.backends.protocol import BoundGraph, Buffer, Graph
from pixelsnail_infer.runtime.files.elu import without_elu
from pixelsnail_infer.runtime.files.graphfile import GraphFile
from pixelsnail_infer.runtime.files.protobuf import WireError
from pixelsnail_infer.runtime.files.unconditional import without_conditions

_PROVIDER = "CUDAExecutionProvider"
_OLDEST = (1, 31)  # before it, a replay may read host memory that is gone
_FAILURE = re.compile(r"CU(?:DA|DNN|BLAS) failure [^;\n]*\b|CUDA Provider not available")
_NUMBERS = itertools.count(1)  # of CUDA graphs: one of buffers that are gone must never run again


class CudaBackend(CpuBackend):
    """Sessions on the CUDA execution provider, in full float32 (TF32 is switched off).

    The step, the filtered step and the row graph are captured, anew for every binding: every node of them that computes
    anything but shapes must have a place on the GPU, or the engine refuses. Of the others, which run seldom, it may
    leave nodes to the CPU. The engine keeps what it captured until the session goes.
    """

    device = "cuda"
    plans: tuple[Plan, ...] = (DEFAULT_PLAN, Plan(precision="float16"))  # int8 has kernels on the CPU alone

    def __init__(self, threads: int | None = None, engine: Any = onnxruntime) -> None:
        super().__init__(threads)
        self._engine = engine
        if _PROVIDER not in engine.get_available_providers():
            raise BackendError(
                f"device is 'cuda', but this ONNX Runtime has only {', '.join(engine.get_available_providers())}; "
                "install onnxruntime-gpu 1.31 or newer in place of onnxruntime, or use device='cpu'."
            )
        found = re.match(r"(\d+)\.(\d+)", engine.__version__)
        if found is None or (int(found[1]), int(found[2])) < _OLDEST:
            raise BackendError(
                f"device is 'cuda', but this is onnxruntime-gpu {engine.__version__}, whose CUDA graphs may give wrong "
                "results; install 1.31 or newer, or use device='cpu'."
            )
        self._expect_gpu()

    def load(self, file: GraphFile) -> Graph:
        """Create the session. Raises `BackendError` where a node that is to be captured has no place on the GPU."""
        captured = _is_captured(file)
        model = self._model(file)
        try:
            session = self._session(model, captured)
        except Exception as error:  # the engine raises a class of its own for every status code
            if elsewhere := self._elsewhere(model):
                kinds = ", ".join(f"{count} {kind}" for kind, count in elsewhere.items())
                raise BackendError(
                    f"{file.name}: ONNX Runtime {self._engine.__version__} has no place on the GPU for nodes of the "
                    f"{file.what} ({kinds}); use device='cpu', or an archive with backend='torch'."
                ) from error
            raise GraphFileError(
                f"{file.name} cannot be loaded by ONNX Runtime {self._engine.__version__} ({reason_of(error)}); "
                "install the version that the README names, or export the checkpoint again."
            ) from error
        if session.get_providers()[0] != _PROVIDER:
            raise BackendError(f"ONNX Runtime fell back to {session.get_providers()[0]}, expected {_PROVIDER}.")
        return CudaGraph(session, file, self._engine, captured)

    def _model(self, file: GraphFile) -> bytes:
        """The file, which was checked, with operators that the provider has."""
        try:
            held = file.source if isinstance(file.source, bytes) else file.source.read_bytes()
            return without_elu(without_conditions(held))
        except (OSError, MemoryError, WireError) as error:
            raise GraphFileError(f"{file.name} cannot be read again ({reason_of(error)}); load it again.") from error

    def _session(self, model: bytes, captured: bool, **entries: str) -> Any:
        options = self._engine.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # that nodes which compute shapes run on the CPU is no news
        for key, value in {"load_model_format": "ONNX", **entries}.items():
            options.add_session_config_entry(f"session.{key}", value)
        # Heuristic, because algorithms that are chosen by timing differ from one load to the next.
        provider = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC", "enable_cuda_graph": str(int(captured))}
        return self._engine.InferenceSession(model, options, providers=[(_PROVIDER, provider)], enable_fallback=0)

    def _elsewhere(self, model: bytes) -> dict[str, int]:
        """How many nodes of which kind the engine does not put on the GPU; empty where it cannot load the model."""
        try:
            session = self._session(model, False, record_ep_graph_assignment_info="1")
            groups = session.get_provider_graph_assignment_info()
        except Exception:
            return {}
        kinds = [node.op_type for group in groups if group.ep_name != _PROVIDER for node in group.get_nodes()]
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}

    def _expect_gpu(self) -> None:
        """Put a number on the GPU. Raises `BackendError`."""
        try:
            with redirect_stdout(io.StringIO()):  # it prints what it does not find
                self._engine.preload_dlls(msvc=False)
            self._engine.OrtValue.ortvalue_from_numpy(np.zeros(1, np.float32), "cuda", 0)
        except Exception as error:
            failure = _FAILURE.search(str(error))
            reason = failure[0] if failure else reason_of(error)
            raise BackendError(
                f"device is 'cuda', but ONNX Runtime {self._engine.__version__} cannot use a GPU ({reason}); it needs "
                "an NVIDIA driver, CUDA and cuDNN: install 'onnxruntime-gpu[cuda,cudnn]', or use device='cpu'."
            ) from error

    def _buffer(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        return CudaBuffer(shape, dtype, self._engine)


class CudaBuffer:
    """An `OrtValue` on the device with a host array; `push` and `pull` copy between them, and wait for the copy."""

    __slots__ = ("array", "value")

    def __init__(self, shape: tuple[int, ...], dtype: str, engine: Any) -> None:
        self.array = aligned_zeros(shape, dtype)
        self.value = engine.OrtValue.ortvalue_from_numpy(self.array, "cuda", 0)

    def push(self) -> None:
        """Copy the host array to the device, at the same address as before."""
        with _told("Copying to the device"):
            self.value.update_inplace(self.array)

    def pull(self) -> None:
        """Copy the device memory to the host array."""
        with _told("Copying from the device"):
            self.array[...] = self.value.numpy()


class CudaGraph(OrtGraph):
    """One session, whose graph is captured for every binding or runs kernel by kernel."""

    def __init__(self, session: Any, file: GraphFile, engine: Any, captured: bool) -> None:
        super().__init__(session, file)
        self._engine, self._captured, self._what = engine, captured, f"{file.name}, the {file.what}"

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> BoundGraph:
        """Bind by name once. A graph is captured at its first run, which is checked: see `onnxruntime_replay`."""
        binding = self._binding(inputs, outputs)
        plain = OrtBoundGraph(self._session, binding, self._options(-1), self._where)
        if not self._captured:
            return plain
        replay = OrtBoundGraph(self._session, binding, self._options(next(_NUMBERS)), self._where)
        held = {name: outputs[name].value for name in self.outputs}  # type: ignore[attr-defined]
        return ReplayedGraph(plain, replay, held, self._what)

    def _options(self, number: int) -> Any:
        """Of a run as the CUDA graph of this number; -1 is none."""
        options = self._engine.RunOptions()
        options.log_severity_level = 4  # a failure is raised, and need not be printed, too
        options.add_run_config_entry("gpu_graph_id", str(number))
        return options


def _is_captured(file: GraphFile) -> bool:
    """Whether the graph runs at every row or pixel."""
    if (part := file.metadata.get(PART_KEY)) is not None:
        return part in ("row", "filtered")
    return kind_of(file.metadata[METADATA_KEY]) == "prior"


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise EngineError(f"{what} failed ({reason_of(error)}); load the model again.") from error
