"""A model whose graphs fail and stall at random, as backends do."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from pixelsnail_infer.errors import EngineError
from pixelsnail_infer.runtime import Sampler
from pixelsnail_infer.runtime.backends import BoundGraph, Buffer, Graph
from pixelsnail_infer.runtime.backends.graphs import Graphs
from pixelsnail_infer.runtime.drawing.loading import opened

STALL = 0.05  # seconds


class Dice:
    """How often a run fails or stalls, and how often it did. Switched off, neither happens."""

    def __init__(self, failing: float, stalling: float, seed: int) -> None:
        self.failing, self.stalling, self.on = failing, stalling, True
        self.failed = self.stalled = 0
        self._random, self._lock = random.Random(seed), threading.Lock()

    def roll(self) -> None:
        """Before a run: raises `EngineError`, or waits, or does nothing."""
        if not self.on:
            return
        with self._lock:
            number = self._random.random()
        if number < self.failing:
            self.failed += 1
            raise EngineError("a fault that the stress test injected")
        if number < self.failing + self.stalling:
            self.stalled += 1
            time.sleep(STALL)


class _Graphs:
    def __init__(self, graphs: Graphs, dice: Dice) -> None:
        self._graphs, self._dice = graphs, dice

    def __call__(self, part: str) -> Graph:
        return _Graph(self._graphs(part), self._dice)


class _Graph:
    def __init__(self, graph: Graph, dice: Dice) -> None:
        self.inputs, self.outputs, self._graph, self._dice = graph.inputs, graph.outputs, graph, dice

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> BoundGraph:
        return _Bound(self._graph.bind(inputs, outputs), self._dice)


class _Bound:
    def __init__(self, bound: BoundGraph, dice: Dice) -> None:
        self._bound, self._dice = bound, dice

    def run(self) -> None:
        self._dice.roll()
        self._bound.run()


def faulty(path: Path, dice: Dice, threads: int | None) -> Sampler:
    """The model of `path`, whose graphs roll the dice before every run."""
    files, backend, graphs = opened(path, siblings=None, device="cpu", backend="auto", threads=threads)
    return Sampler(files.manifest, backend, _Graphs(graphs, dice))
