"""A sampler whose prologue graph counts the images that it is run for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixelsnail_infer.runtime import Sampler
from pixelsnail_infer.runtime.backends import BoundGraph, Buffer, Graph, open_backend
from pixelsnail_infer.runtime.backends.graphs import GraphSet
from pixelsnail_infer.runtime.files.model_files import ModelFiles


@dataclass
class Counting:
    """Loaded graphs by part; `runs` holds the batch size of every run of the prologue."""

    graphs: Any
    runs: list[int] = field(default_factory=list)

    def __call__(self, part: str) -> Graph:
        return CountedGraph(self.graphs(part), self.runs) if part == "prologue" else self.graphs(part)


class CountedGraph:
    def __init__(self, graph: Graph, runs: list[int]) -> None:
        self.inputs, self.outputs = graph.inputs, graph.outputs
        self._graph, self._runs = graph, runs

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> BoundGraph:
        size = len(next(iter(inputs.values())).array)
        return CountedRun(self._graph.bind(inputs, outputs), size, self._runs)


class CountedRun:
    def __init__(self, bound: BoundGraph, size: int, runs: list[int]) -> None:
        self._bound, self._size, self._runs = bound, size, runs

    def run(self) -> None:
        self._runs.append(self._size)
        self._bound.run()


def counting_sampler(path: Path) -> tuple[Sampler, list[int]]:
    """A sampler of the export at `path`, and the list that grows with every run of its prologue."""
    files, backend = ModelFiles(path), open_backend("cpu", 1)
    graphs = Counting(GraphSet(files, backend))
    return Sampler(files.manifest, backend, graphs), graphs.runs
