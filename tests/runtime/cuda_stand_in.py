"""In the place of onnxruntime-gpu: sessions of the CPU that capture and replay as the CUDA provider is said to.

A graph is captured at its first run with a number, which runs it several times; from then on a run with this number
takes the buffers of the capture, whatever else is bound. Values on the device are apart from the host's.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort

CUDA = "CUDAExecutionProvider"
Replay = Callable[["Session", "Binding", int], None]  # of which capture, and the how manieth it is


class Value:
    """On the device: reached by copies only."""

    def __init__(self, array: np.ndarray, engine: Engine) -> None:
        self.memory, self.engine = array.copy(), engine
        self.held = ort.OrtValue.ortvalue_from_numpy(self.memory)

    def update_inplace(self, data: np.ndarray) -> None:
        assert data.flags.c_contiguous and (data.dtype, data.shape) == (self.memory.dtype, self.memory.shape)
        self.engine.copies["to the device"] += 1
        self.memory[...] = data

    def numpy(self) -> np.ndarray:
        self.engine.copies["to the host"] += 1
        return self.memory.copy()


class Binding:
    def __init__(self, session: ort.InferenceSession) -> None:
        self.held, self.inputs, self.outputs = session.io_binding(), dict[str, Value](), dict[str, Value]()

    def bind_ortvalue_input(self, name: str, value: Value) -> None:
        self.inputs[name] = value
        self.held.bind_ortvalue_input(name, value.held)

    def bind_ortvalue_output(self, name: str, value: Value) -> None:
        self.outputs[name] = value
        self.held.bind_ortvalue_output(name, value.held)


class Session:
    def __init__(self, engine: Engine, model: bytes, options: ort.SessionOptions, provider: dict[str, str]) -> None:
        self.engine, self.provider = engine, provider
        self.real = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.name = part_of({entry.name for entry in self.real.get_inputs()})
        self.captured: dict[tuple[int, int], Binding] = {}
        self.replays: Counter[int] = Counter()
        self.get_inputs, self.get_outputs = self.real.get_inputs, self.real.get_outputs

    def get_providers(self) -> list[str]:
        return [*self.engine.got, "CPUExecutionProvider"]

    def io_binding(self) -> Binding:
        return Binding(self.real)

    def run_with_iobinding(self, binding: Binding, options: ort.RunOptions) -> None:
        number = int(options.get_run_config_entry("gpu_graph_id"))
        self.engine.runs.append((self.name, number))
        if number == -1:
            self.real.run_with_iobinding(binding.held)
            return
        assert number > 0 and self.provider["enable_cuda_graph"] == "1"
        key = threading.get_ident(), number
        if key not in self.captured:
            self.captured[key] = binding
            for _ in range(3):
                self.real.run_with_iobinding(binding.held)
            return
        self.replays[number] += 1
        self.engine.replay(self, self.captured[key], self.replays[number])

    def get_provider_graph_assignment_info(self) -> list[Any]:
        nodes = [SimpleNamespace(op_type=kind) for kind in self.engine.elsewhere]
        return [SimpleNamespace(ep_name="CPUExecutionProvider", get_nodes=lambda: nodes),
                SimpleNamespace(ep_name=CUDA, get_nodes=lambda: [SimpleNamespace(op_type="MatMul")])]


def part_of(inputs: set[str]) -> str:
    marks = {"top_k": "filtered", "noise": "step", "rows": "score", "row": "row"}
    return next((part for mark, part in marks.items() if mark in inputs), "prologue")


def rightly(session: Session, binding: Binding, count: int) -> None:
    session.real.run_with_iobinding(binding.held)


class Engine:
    """The module: `replay` is what a replay does, `elsewhere` the kinds of nodes that have no place on the GPU,
    `unusable` why there is none, `got` what sessions run on."""

    SessionOptions, RunOptions = ort.SessionOptions, ort.RunOptions

    def __init__(self, replay: Replay = rightly, version: str = "1.31.1", elsewhere: tuple[str, ...] = (),
                 unusable: str = "", got: tuple[str, ...] = (CUDA,)) -> None:
        self.replay, self.__version__, self.elsewhere, self.unusable, self.got = (
            replay, version, elsewhere, unusable, got)  # fmt: skip
        self.available = [CUDA, "CPUExecutionProvider"]
        self.sessions: dict[str, Session] = {}
        self.runs: list[tuple[str, int]] = []
        self.copies: Counter[str] = Counter()
        self.OrtValue = SimpleNamespace(ortvalue_from_numpy=self._value)

    def get_available_providers(self) -> list[str]:
        return self.available

    def preload_dlls(self, msvc: bool) -> None:
        print("Failed to load libcublasLt.so.13")

    def _value(self, array: np.ndarray, device: str, index: int) -> Value:
        assert (device, index) == ("cuda", 0)
        if self.unusable:
            raise RuntimeError(self.unusable)
        return Value(array, self)

    def InferenceSession(self, model: bytes, options: ort.SessionOptions, providers: Any, enable_fallback: int
                         ) -> Session:
        ((provider, settings),) = providers
        assert provider == CUDA and not enable_fallback and isinstance(model, bytes)
        if self.elsewhere and settings["enable_cuda_graph"] == "1":
            raise RuntimeError("This session cannot use the graph capture feature as requested by the user")
        session = Session(self, model, options, settings)
        return self.sessions.setdefault(session.name, session)
