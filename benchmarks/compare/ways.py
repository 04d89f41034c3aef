"""Ways to draw an image, each as the seconds that one row takes: what people do today, and what we do and could do.

All but the public one are driven by the runtime's own loop, with the same noise and buffers, so that they differ in
their graphs and engines alone.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from models import Case

from pixelsnail_infer.export.artifacts import build_part
from pixelsnail_infer.export.compile import Compiled
from pixelsnail_infer.export.writing.torch_writer import torch_module
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime.backends.protocol import Backend, BoundGraph, Buffer, Graph, TensorInfo
from pixelsnail_infer.runtime.backends.torch_cpu import TorchBackend, TorchBoundGraph, tensors_of
from pixelsnail_infer.runtime.drawing.loading import opened
from pixelsnail_infer.runtime.drawing.loop import draw_rows
from pixelsnail_infer.runtime.drawing.prologue import CallConditions
from pixelsnail_infer.runtime.drawing.workspace import Workspace
from pixelsnail_infer.runtime.requests.request import make_request

Row = Callable[[int], float]
"""Seconds of one row of a whole batch, by its number."""


class Public:
    """The whole network over all rows drawn so far, at every pixel of a row. Of images, over the whole canvas."""

    def __init__(self, case: Case) -> None:
        self._module, self._shape = case.module, case.source.shape
        self._channels, self._specs = case.source.distribution.pixel_shape, case.source.conditions

    def row(self, size: int) -> Row:
        """One pixel, timed, times the pixels of a row. The first call of every length is not counted."""
        height, width = self._shape
        known = set[int]()
        given = {spec.name: torch.zeros(size, *spec.shape, dtype=getattr(torch, spec.dtype)) for spec in self._specs}
        dtype = torch.float32 if self._channels else torch.int64

        def one(row: int) -> float:
            rows = height if self._channels else row + 1
            pixels = torch.zeros(size, *self._channels, rows, width, dtype=dtype)
            with torch.inference_mode():
                if rows not in known:
                    known.add(rows)
                    self._module(pixels, **given)
                started = perf_counter()
                self._module(pixels, **given)
            return (perf_counter() - started) * width

        return one


class Looped:
    """Graphs in an engine, called by the runtime's loop."""

    def __init__(self, manifest: Manifest, engine: Backend, graphs: Any) -> None:
        self.manifest, self._work = manifest, Workspace(manifest, engine, graphs)

    def row(self, size: int) -> Row:
        """Every pixel of a row is drawn. The first row of this size is drawn here, and not counted."""
        manifest = self.manifest
        given: dict[str, Any] = {spec.name: np.zeros((size, *spec.shape), spec.dtype) for spec in manifest.conditions}
        request = make_request(manifest, size, seed=0, conditions=given)
        conditions = CallConditions(request.conditions, size)
        batch = self._work.prepared(conditions, slice(0, size), request.given, 0)

        def one(row: int) -> float:
            started = perf_counter()
            next(draw_rows(manifest, batch, request, row))
            return perf_counter() - started

        one(0)
        one(1)
        return one


def onnxruntime(path: Path, threads: int) -> Looped:
    """An export in ONNX Runtime."""
    files, engine, graphs = opened(path, siblings=None, device="cpu", backend="onnxruntime", threads=threads)
    return Looped(files.manifest, engine, graphs)


def eager(compiled: Compiled, manifest: Manifest, threads: int, change: Callable[[Any], Any] = lambda m: m) -> Looped:
    """The staged program in PyTorch, operation by operation; `change` may compile each part."""
    return Looped(manifest, TorchBackend(threads), _Modules(compiled, change))


class _Modules:
    """Parts as modules of PyTorch."""

    def __init__(self, compiled: Compiled, change: Callable[[Any], Any]) -> None:
        self._compiled, self._change, self._shared = compiled, change, dict[str, torch.Tensor]()
        self._made: dict[str, Graph] = {}

    def __call__(self, part: str) -> Graph:
        if part not in self._made:
            module = torch_module(build_part(self._compiled, part), self._shared)
            self._made[part] = _Module(module, self._change(module))
        return self._made[part]


class _Module:
    """One part."""

    def __init__(self, told: Any, run: Any) -> None:
        self._run = run
        both = ({name: TensorInfo(told.dtypes[name], tuple(k if k >= 0 else None for k in told.shapes[name]))
                 for name in names} for names in (told.inputs, told.outputs))  # fmt: skip
        self.inputs, self.outputs = both

    def bind(self, inputs: dict[str, Buffer], outputs: dict[str, Buffer]) -> BoundGraph:
        taken, given = tensors_of(inputs, self.inputs), tensors_of(outputs, self.outputs)
        return TorchBoundGraph(self._run, taken, given, None, "a part in PyTorch")


def in_turns(rows: dict[str, Row], which: list[int], turns: int) -> dict[str, float]:
    """Seconds of a mean row of every way: `turns` times one after the other, each at every row of `which`."""
    found: dict[str, dict[int, list[float]]] = {name: {row: [] for row in which} for name in rows}
    for _ in range(turns):
        for row in which:
            for name, one in rows.items():
                found[name][row].append(one(row))
    return {name: statistics.mean(statistics.median(times) for times in of.values()) for name, of in found.items()}
