"""One batch size, timed: rows drawn by the sampling loop itself, evenly spread over the canvas, in turns with what the
floor is made of."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from time import perf_counter
from typing import Any

import numpy as np

from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime.bench.figures import percentiles
from pixelsnail_infer.runtime.bench.floors import Floors
from pixelsnail_infer.runtime.bench.recording import RecordedGraphs
from pixelsnail_infer.runtime.drawing.batch import Batch
from pixelsnail_infer.runtime.drawing.loop import draw_rows
from pixelsnail_infer.runtime.drawing.prologue import CallConditions
from pixelsnail_infer.runtime.drawing.workspace import Workspace
from pixelsnail_infer.runtime.requests.request import Request, make_request

__all__ = ["Drawing", "Times", "spread_rows"]

LEAST_ROWS = 3
FLOOR_SHARE = 0.3  # of the time that rows take, spent on the floor
GOLDEN = 0.6180339887498949


@dataclass(slots=True)
class Times:
    """Seconds of whole rows by row, and of rows and steps: the graphs alone, and as the loop sees them."""

    whole: dict[int, list[float]] = field(default_factory=dict)
    graph: dict[str, list[float]] = field(default_factory=lambda: {"row": [], "step": []})
    loop: dict[str, list[float]] = field(default_factory=lambda: {"row": [], "step": []})

    def add(self, row: int, began: float, ended: float, runs: Sequence[tuple[str, float, float]]) -> None:
        """One row, from `began` to `ended`, and the runs of its graphs: the row graph, then the step for every pixel.

        The loop's row reaches to the first step, with its noise and the buffers that it fills; a step of the loop
        reaches to the next one. So they add up to the whole.
        """
        starts = [start for _, start, _ in runs] + [ended]
        self.whole.setdefault(row, []).append(ended - began)
        self.loop["row"].append(starts[1] - began)
        self.loop["step"] += [after - before for before, after in zip(starts[1:], starts[2:], strict=False)]
        for part, start, end in runs:
            self.graph[part].append(end - start)

    def image(self, height: int) -> float:
        """Seconds of `height` rows: the mean over the rows that were timed, each by its median."""
        return height * statistics.mean(statistics.median(times) for times in self.whole.values())

    def part(self, part: str) -> dict[str, Any]:
        """Percentiles of a part in the loop and of its graph, and what the loop adds to it at the median."""
        added = np.subtract(self.loop[part], self.graph[part])
        return {"loop": percentiles(self.loop[part]), "graph": percentiles(self.graph[part]),
                "python_ms": float(np.median(added)) * 1e3}  # fmt: skip


class Drawing:
    """Batches of `size` images. Draws in the buffers of `work`, whose graphs are `recorded`."""

    def __init__(self, manifest: Manifest, work: Workspace, recorded: RecordedGraphs, size: int) -> None:
        self._manifest, self._work, self._recorded, self.size = manifest, work, recorded, size
        self._set_up: list[float] = []
        self._first_rows: list[float] = []

    def measure(self, seconds: float, floors: Floors | None) -> dict[str, Any]:
        """Time rows for so many seconds, at least some; `floors` is measured in between."""
        height, times = self._manifest.height, Times()
        self._first_row()  # loads, allocates, warms up
        self._set_up.clear()
        self._first_rows.clear()
        for _ in range(LEAST_ROWS):
            request, batch = self._first_row()
            if floors:
                floors.measure()
        began = perf_counter()
        drawing = 0.0
        for drawn, row in enumerate(cycle(spread_rows(height)), 1):
            drawing += self._row(row, request, batch, times)
            past = perf_counter() - began
            if drawn >= LEAST_ROWS and past > seconds:
                break
            if floors and past - drawing < FLOOR_SHARE * drawing:
                floors.measure()
        return self._found(times)

    def _first_row(self) -> tuple[Request, Batch]:
        """From the call to the first row, as `sample` does it."""
        began = perf_counter()
        conditions = {spec.name: np.zeros((self.size, *spec.shape), spec.dtype) for spec in self._manifest.conditions}
        request = make_request(self._manifest, self.size, seed=0, conditions=conditions)
        images = slice(0, self.size)
        batch = self._work.prepared(CallConditions(request.conditions, self.size), images, request.given, 0)
        self._set_up.append(perf_counter() - began)
        next(draw_rows(self._manifest, batch, request, 0))
        self._first_rows.append(perf_counter() - began)
        return request, batch

    def _row(self, row: int, request: Request, batch: Batch, times: Times) -> float:
        batch.states.reset()  # rows come in any order, and caches are as long as each needs
        batch.states.reach(row + 1)
        self._recorded.runs.clear()
        began = perf_counter()
        next(draw_rows(self._manifest, batch, request, row))
        ended = perf_counter()
        times.add(row, began, ended, self._recorded.runs)
        return ended - began

    def _found(self, times: Times) -> dict[str, Any]:
        set_up = statistics.median(self._set_up)
        seconds = (set_up + times.image(self._manifest.height)) / self.size
        return {
            "batch": self.size, "seconds_per_image": seconds, "images_per_second": 1 / seconds,
            "set_up_ms": set_up * 1e3, "first_row_ms": statistics.median(self._first_rows) * 1e3,
            "rows_timed": len(times.whole), "rows": self._manifest.height,
            "row": times.part("row"), "step": times.part("step"),
        }  # fmt: skip


def spread_rows(height: int) -> list[int]:
    """All rows, in an order of which every beginning lies evenly about the middle."""
    spread = (int(height * ((0.5 + k * GOLDEN) % 1)) for k in range(4 * height))
    return list(dict.fromkeys([*spread, *range(height)]))
