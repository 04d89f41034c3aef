"""When each run of a graph began and ended, noted around the bound graphs that the sampling loop calls."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

from pixelsnail_infer.runtime.backends.graphs import Graphs
from pixelsnail_infer.runtime.backends.protocol import BoundGraph, Buffer, Graph, TensorInfo

__all__ = ["RecordedGraphs", "Runs"]

Runs = list[tuple[str, float, float]]
"""Part, beginning and end in seconds, in the order of the runs."""


class RecordedGraphs:
    """Graphs whose runs are appended to `runs`. Each costs a fraction of a microsecond more."""

    def __init__(self, graphs: Graphs) -> None:
        self._graphs = graphs
        self.runs: Runs = []

    def __call__(self, part: str) -> Graph:
        """The graph of `part`."""
        return _Recorded(self._graphs(part), part, self.runs)


class _Recorded:
    """A graph."""

    def __init__(self, graph: Graph, part: str, runs: Runs) -> None:
        self._graph, self._part, self._runs = graph, part, runs

    @property
    def inputs(self) -> Mapping[str, TensorInfo]:
        return self._graph.inputs

    @property
    def outputs(self) -> Mapping[str, TensorInfo]:
        return self._graph.outputs

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> BoundGraph:
        return _RecordedRun(self._graph.bind(inputs, outputs), self._part, self._runs)


class _RecordedRun:
    """A graph with its buffers."""

    __slots__ = ("_add", "_part", "_run")

    def __init__(self, bound: BoundGraph, part: str, runs: Runs) -> None:
        self._run, self._part, self._add = bound.run, part, runs.append

    def run(self) -> None:
        started = perf_counter()
        self._run()
        self._add((self._part, started, perf_counter()))
