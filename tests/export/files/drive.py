"""The graphs driven as the contract page says, without the runtime: plain sessions, states in memory of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from pixelsnail_infer.export.artifacts import build_part, state_specs
from pixelsnail_infer.export.compile import Compiled
from pixelsnail_infer.export.emission.builder import HALVES
from pixelsnail_infer.export.emission.graph import Graph
from pixelsnail_infer.export.writing.onnx_writer import write_onnx
from pixelsnail_infer.plan import Plan

Arrays = dict[str, NDArray[Any]]


class Engine(Protocol):
    """One graph, ready to run."""

    inputs: tuple[str, ...]

    def run(self, feeds: Arrays) -> Arrays:
        """All outputs by name."""


class OnnxRuntime:
    """A graph written as ONNX, in ONNX Runtime."""

    def __init__(self, graph: Graph) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        data = write_onnx(graph, {}).SerializeToString()
        self.session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        self.inputs = tuple(item.name for item in self.session.get_inputs())

    def run(self, feeds: Arrays) -> Arrays:
        names = [item.name for item in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, feeds), strict=True))


@dataclass
class Driver:
    """Engines by part, and the tensors that go from one to the next."""

    compiled: Compiled
    precision: str
    engine: Callable[[Graph], Engine] = OnnxRuntime
    spoil: bool = False  # fill what the contract says is not read
    held: Arrays = field(default_factory=dict)
    engines: dict[str, Engine] = field(default_factory=dict)

    @property
    def wide(self) -> str:
        """The dtype of what callers give and get: of half precision only what lies between is."""
        return "float32" if self.precision in HALVES else Plan(precision=self.precision).dtype

    def run(self, part: str, **given: NDArray[Any]) -> Arrays:
        """Run a part on `given` and what is held; states and prologue tensors are held for the next."""
        if part not in self.engines:
            compiled = replace(self.compiled, plan=Plan(precision=self.precision))
            self.engines[part] = self.engine(build_part(compiled, part))
        feeds = {**self.held, **given}
        results = self.engines[part].run({name: feeds[name] for name in self.engines[part].inputs})
        if part != "score":
            for name in [n for n in results if n.startswith(("state.", "prologue."))]:
                self.held[name.removesuffix(".out")] = results.pop(name)
        return results

    def begin(self, slots: int, conditions: Mapping[str, NDArray[Any]]) -> None:
        """States as before the first row, and the prologue."""
        specs = state_specs(self.compiled.layout, self.precision if self.precision in HALVES else "float32")
        self.held = {spec.name: np.full((slots, *spec.shape), spec.initial, HALVES.get(spec.dtype, self.wide))
                     for spec in specs}
        if self.spoil:  # masks may meet what they hide with a product, so that it must be finite
            self.held |= {cache.name: np.full_like(self.held[cache.name], 7.0) for cache in self.compiled.layout.caches}
        if self.compiled.prologue.crossing:
            self.run("prologue", **conditions)

    def resume(self, score: Arrays) -> None:
        """States as the score graph left them."""
        self.held.update({name.removesuffix(".out"): value for name, value in score.items()
                          if name.startswith("state.")})

    def walk(self, part: str, rows: range, given: Arrays, twice: bool = False) -> tuple[NDArray[Any], NDArray[Any]]:
        """Logits or parameters `[B, H, W, n]` and pixels `[B, H, W, (D)]` of some rows, zero elsewhere, with the states
        that are held. `given`: `noise`, `given` and `use_given` with a row axis behind B; `temperature`, and for the
        filtered step `top_k` and `top_p`, `[B]`. `twice` runs every graph again, which must change nothing."""
        slots, height, width = given["given"].shape[:3]
        logits = np.zeros((slots, height, width, self.compiled.distribution.parameters), self.wide)
        pixels = np.zeros_like(given["given"])
        for i in rows:
            here = {name: value[:, i] if name in ("noise", "given", "use_given") else value
                    for name, value in given.items()}
            self._grow(i)
            self._spoil("row", i)
            for _ in range(1 + twice):
                result = self.run("row", row=np.full(slots, i))
            self._spoil("step", i)
            for j in range(width):
                for _ in range(1 + twice):
                    step = self.run(part, row=np.full(slots, i), col=np.array([j]), **result, **here)
                logits[:, i, j], pixels[:, i, j] = step["logits"], step["pixel"]
        return logits, pixels

    def _grow(self, row: int) -> None:
        """Caches that grow, as long as the rows that were begun: the shortest that the contract allows."""
        end = (row + 1) * self.compiled.program.shape[1]
        for cache in (cache for cache in self.compiled.layout.caches if cache.grows):
            old = self.held[cache.name][:, :, :end]
            new = np.full((*old.shape[:2], end, old.shape[3]), 7.0 if self.spoil else 0.0, old.dtype)
            new[:, :, :old.shape[2]] = old
            self.held[cache.name] = new

    def _spoil(self, writer: str, row: int) -> None:
        """NaN in the line of every ring that a graph is about to write: the margins stay."""
        for canvas in self.compiled.layout.canvases if self.spoil else ():
            if canvas.writer == writer and row % canvas.every[0] == 0:
                start = row // canvas.every[0] % canvas.rows * canvas.stride + canvas.left
                self.held[canvas.name][:, :, start:start + canvas.width] = np.nan

    def replay(self, images: NDArray[Any], part: str = "step", rows: int | None = None, start: int = 0,
               twice: bool = False) -> NDArray[Any]:
        """Logits or parameters `[B, rows, W, n]` under teacher forcing, after `begin`; images as the contract has them,
        codes int64 `[B, H, W]` or channels `[B, H, W, D]` in the precision of the graphs. From row `start` on."""
        slots, height, width = images.shape[:3]
        law, one = self.compiled.distribution, np.ones(len(images), self.wide)
        forced = {"given": images, "use_given": np.ones((slots, height, width), bool), "temperature": one, "top_p": one,
                  "noise": np.zeros((slots, height, width, law.noise_width), self.wide),
                  "top_k": np.full(slots, law.parameters)}
        known = range(start, height if rows is None else rows)
        logits, pixels = self.walk(part, known, forced, twice)
        assert np.array_equal(pixels[:, known], images[:, known])
        return logits[:, :known.stop]
