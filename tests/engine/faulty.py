"""A sampler on an engine that does as it is told: it fails at chosen runs, waits for a gate, or keeps its buffers away
from the host, as a GPU does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pixelsnail_infer.errors import EngineError
from pixelsnail_infer.runtime import Sampler
from pixelsnail_infer.runtime.backends import BoundGraph, Buffer, Graph, open_backend
from pixelsnail_infer.runtime.backends.graphs import GraphSet
from pixelsnail_infer.runtime.backends.onnxruntime_cpu import CpuBuffer
from pixelsnail_infer.runtime.files.model_files import ModelFiles


@dataclass
class Orders:
    """`before(part, inputs)` is called before every run of a graph, with the host arrays of its inputs by name; what it
    raises, the run raises. While `gate` is not set, runs of the row graph wait."""

    before: Callable[[str, dict[str, np.ndarray]], object] = lambda part, inputs: None
    gate: threading.Event = field(default_factory=threading.Event)
    runs: list[tuple[str, int]] = field(default_factory=list)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __post_init__(self) -> None:
        self.gate.set()

    def fail(self, part: str, *numbers: int, error: type[Exception] = EngineError) -> None:
        """Fail at these runs of `part`, counted from 0."""

        def before(name: str, inputs: Any) -> None:
            if name == part and sum(found == part for found, _ in self.runs) - 1 in numbers:
                raise error(f"run of {part} failed")

        self.before = before

    def run(self, part: str, inputs: Mapping[str, Buffer], bound: BoundGraph) -> None:
        arrays = {name: buffer.array for name, buffer in inputs.items()}
        self.runs.append((part, max(len(array) for array in arrays.values())))
        if part == "row":
            self.entered.release()
            assert self.gate.wait(30)
        self.before(part, arrays)
        bound.run()


class FaultyGraphs:
    """Loaded graphs by part."""

    def __init__(self, graphs: Any, orders: Orders) -> None:
        self._graphs, self._orders = graphs, orders

    def __call__(self, part: str) -> Graph:
        return FaultyGraph(self._graphs(part), part, self._orders)


class FaultyGraph:
    def __init__(self, graph: Graph, part: str, orders: Orders) -> None:
        self.inputs, self.outputs = graph.inputs, graph.outputs
        self._graph, self._part, self._orders = graph, part, orders

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> BoundGraph:
        taken = {name: inputs[name] for name in self.inputs}
        return FaultyRun(self._graph.bind(inputs, outputs), taken, self._part, self._orders)


class FaultyRun:
    def __init__(self, bound: BoundGraph, inputs: Mapping[str, Buffer], part: str, orders: Orders) -> None:
        self._bound, self._inputs, self._part, self._orders = bound, inputs, part, orders

    def run(self) -> None:
        self._orders.run(self._part, self._inputs, self._bound)


def faulty_sampler(path: Path) -> tuple[Sampler, Orders]:
    files, backend, orders = ModelFiles(path), open_backend("cpu", 1), Orders()
    return Sampler(files.manifest, backend, FaultyGraphs(GraphSet(files, backend), orders)), orders


class FarBuffer:
    """The host array is a copy: only `push` and `pull` bring it and the graphs' memory together."""

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self._near = CpuBuffer(shape, dtype)
        self.value = self._near.value
        self.array = self._near.array.copy()

    def push(self) -> None:
        self._near.array[...] = self.array

    def pull(self) -> None:
        self.array[...] = self._near.array


def far_sampler(path: Path) -> Sampler:
    """Its buffers cannot be bound in part."""
    files, backend = ModelFiles(path), open_backend("cpu", 1)
    backend._buffer = FarBuffer
    return Sampler(files.manifest, backend, GraphSet(files, backend))
