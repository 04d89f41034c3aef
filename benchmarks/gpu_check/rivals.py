"""What people do today: the whole network over all rows drawn so far, at every pixel. Timed at evenly spaced rows and
extrapolated to all pixels: eager, captured as a CUDA graph, and compiled by torch.compile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from agreement import conditions
from models import Case
from timing import each

Forward = Callable[..., Any]
TIMES = 3  # calls of the network, one after the other


def image_seconds(case: Case, device: str, how: str, batch: int = 1) -> dict[str, float]:
    """Seconds of one image of a batch. `how` is "eager", "cuda graph" or "compiled"."""
    height, width = case.source.shape
    channels = case.source.distribution.pixel_shape
    model = case.module.to(device)
    given = {name: torch.from_numpy(value).to(device) for name, value in conditions(case, batch).items()}
    forward = torch.compile(model) if how == "compiled" else model
    # Public samplers of images run the whole canvas; compiling takes minutes for every size.
    rows = [height] if channels or how == "compiled" else [round(height * (k + 0.5) / 4) for k in range(4)]
    dtype = torch.float32 if channels else torch.int64
    found = []
    try:
        for some in rows:
            pixels = torch.zeros(batch, *channels, some, width, dtype=dtype, device=device)
            found.append(_seconds(forward, pixels, given, device, how == "cuda graph"))
    finally:
        case.module.cpu()
    return {"image_s": sum(found) / len(found) * height * width / batch, "rows_timed": len(rows),
            "canvas": "whole" if rows == [height] else "rows drawn so far"}  # type: ignore[dict-item]


def _seconds(forward: Forward, pixels: torch.Tensor, given: dict[str, torch.Tensor], device: str, graph: bool) -> float:
    def call() -> Any:
        return forward(pixels, **given)

    with torch.inference_mode():
        for _ in range(2):
            call()
        if not graph:
            return each(call, device, TIMES, 3)
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):
            call()
        return each(captured.replay, device, TIMES, 3)


def methods(device: str, compiled: bool) -> Sequence[str]:
    """Those that the device has."""
    return ("eager", *(("cuda graph",) if device.startswith("cuda") else ()), *(("compiled",) if compiled else ()))
