"""The graphs driven as the contract page says, without the runtime: plain sessions, states in memory of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from pixelsnail_infer.export.artifacts import build_part, state_specs
from pixelsnail_infer.export.compile import Compiled

Arrays = dict[str, NDArray[Any]]


@dataclass
class Driver:
    """Sessions by part, and the tensors that go from one to the next."""

    compiled: Compiled
    precision: str
    held: Arrays = field(default_factory=dict)
    sessions: dict[str, ort.InferenceSession] = field(default_factory=dict)

    def run(self, part: str, **given: NDArray[Any]) -> Arrays:
        """Run a part on `given` and what is held; states and prologue tensors are held for the next."""
        if part not in self.sessions:
            options = ort.SessionOptions()
            options.intra_op_num_threads, options.log_severity_level = 1, 3
            model = build_part(self.compiled, part, self.precision).model({}).SerializeToString()
            self.sessions[part] = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        session, feeds = self.sessions[part], {**self.held, **given}
        wanted = {item.name: feeds[item.name] for item in session.get_inputs()}
        names = [item.name for item in session.get_outputs()]
        results = dict(zip(names, session.run(names, wanted), strict=True))
        if part != "score":
            for name in [n for n in names if n.startswith(("state.", "prologue."))]:
                self.held[name.removesuffix(".out")] = results.pop(name)
        return results

    def begin(self, slots: int, conditions: Mapping[str, NDArray[Any]]) -> None:
        """States as before the first row, and the prologue."""
        self.held = {spec.name: np.full((slots, *spec.shape), spec.initial, self.precision)
                     for spec in state_specs(self.compiled.layout)}
        if self.compiled.prologue.crossing:
            self.run("prologue", **conditions)

    def replay(self, codes: NDArray[np.int64], part: str = "step", rows: int | None = None) -> NDArray[Any]:
        """Logits [B, rows, W, L] under teacher forcing, after `begin`."""
        slots, height, width = codes.shape
        levels = self.compiled.program.output.channels[0]
        logits = np.empty((slots, height if rows is None else rows, width, levels), self.precision)
        one = np.ones(slots, self.precision)
        fixed = {"noise": np.zeros((slots, width, levels), self.precision), "temperature": one, "top_p": one,
                 "top_k": np.full(slots, levels), "use_given": np.ones((slots, width), bool)}
        for i in range(logits.shape[1]):
            row = np.full(slots, i)
            result = self.run("row", row=row)["row_result"]
            for j in range(width):
                step = self.run(part, row=row, col=np.array([j]), row_result=result, given=codes[:, i], **fixed)
                logits[:, i, j] = step["logits"]
                assert np.array_equal(step["pixel"], codes[:, i, j])
        return logits
