"""The whole benchmark of one model: every batch size, the start, the memory, and the machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pixelsnail_infer.errors import BackendError
from pixelsnail_infer.manifest import PARTS, Manifest
from pixelsnail_infer.messages import shown
from pixelsnail_infer.plan import DEFAULT_PLAN
from pixelsnail_infer.runtime.backends import Backend
from pixelsnail_infer.runtime.backends.host import usable_cores
from pixelsnail_infer.runtime.bench.alone import draw_alone
from pixelsnail_infer.runtime.bench.bandwidth import StreamingRead
from pixelsnail_infer.runtime.bench.drawing import Drawing
from pixelsnail_infer.runtime.bench.floors import Floors
from pixelsnail_infer.runtime.bench.machine import Others, load_average, machine
from pixelsnail_infer.runtime.bench.recording import RecordedGraphs
from pixelsnail_infer.runtime.bench.waving import measure_waves
from pixelsnail_infer.runtime.drawing.batch import buffer_bytes
from pixelsnail_infer.runtime.drawing.loading import opened
from pixelsnail_infer.runtime.drawing.schedules import runs_waves
from pixelsnail_infer.runtime.drawing.states import state_bytes
from pixelsnail_infer.runtime.drawing.workspace import Workspace
from pixelsnail_infer.runtime.files.model_files import ExportFiles
from pixelsnail_infer.runtime.requests.memory import check_fits

__all__ = ["FORMAT", "bench"]

FORMAT = 1
"""Of the result, counted up when a reader of the old one would be misled."""
DRAWN = ("step", "row", "prologue")  # the parts that drawing takes


def bench(path: str, batches: Sequence[int], *, seconds: float, device: str = "cpu", backend: str = "auto",
          threads: int | None = None, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:  # fmt: skip
    """Time the export at `path` at every batch size, about `seconds` each; the result is JSON, as `docs/benchmarks.md`
    says. `say` hears what is going on. Raises what `load` raises, and `RequestError` where a batch does not fit."""
    if device != "cpu":
        raise BackendError(f"device is {shown(device)}, but bench times single graphs on the CPU, which cannot be told "
                           "apart on a GPU; run benchmarks/gpu_check there.")
    options: dict[str, Any] = {"device": device, "backend": backend, "threads": threads}
    files, engine, graphs = opened(path, siblings=None, **options)
    manifest = files.manifest
    for size in batches:
        need = state_bytes(manifest, size) + buffer_bytes(manifest, size)
        check_fits(need, f"A batch of {size} images", "give smaller batches")
    recorded = RecordedGraphs(graphs)
    work = Workspace(manifest, engine, recorded)
    found: dict[str, Any] = {"format": FORMAT, "machine": machine(), "load_average_before": load_average(),
                             "model": _model(path, files), "device": device, "threads": threads or usable_cores(),
                             "seconds_per_batch_size": seconds, "starts": [], "batches": []}  # fmt: skip
    with StreamingRead(threads or usable_cores()) as memory:
        for k, size in enumerate(batches):
            say(f"batch {size}: a process of its own")
            found["starts"].append(draw_alone(path, size, options, whole=k == 0))
            say(f"batch {size}: rows and steps")
            found["batches"].append(_batch(files, engine, work, recorded, size, seconds, memory))
    return {**found, "load_average_after": load_average()}


def _batch(files: ExportFiles, engine: Backend, work: Workspace, recorded: RecordedGraphs, size: int, seconds: float,
           memory: StreamingRead) -> dict[str, Any]:  # fmt: skip
    manifest = files.manifest
    floors = Floors(files, engine, size, memory) if manifest.plan == DEFAULT_PLAN else None  # products of float32
    others = Others()
    found = Drawing(manifest, work, recorded, size).measure(seconds, floors)
    found["other_processes_cores"] = others.cores()
    found["memory"] = {"state_bytes": state_bytes(manifest, size), "buffer_bytes": buffer_bytes(manifest, size)}
    if manifest.wave is not None and runs_waves(engine):
        found["in_waves"] = measure_waves(work, size, seconds)
    found["floor"] = None if floors is None else _floor(manifest, floors.found(), found)
    return found


def _floor(manifest: Manifest, floor: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """The floors with that of an image, and how many times it a row, a step and an image take, and the best of them."""
    row, step = floor["row"]["floor_ms"], floor["step"]["floor_ms"]
    image = 1e-3 * manifest.height * (row + manifest.width * step) / found["batch"]
    over = {"row": found["row"]["graph"]["p50"] / row if row else None,
            "step": found["step"]["graph"]["p50"] / step if step else None,
            "image": found["seconds_per_image"] / image if image else None}  # fmt: skip
    best = {part: found[part]["graph"]["best"] / least if least else None
            for part, least in (("row", row), ("step", step))}  # fmt: skip
    return {**floor, "seconds_per_image": image, "time_over_floor": over, "best_over_floor": best}


def _model(path: str, files: ExportFiles) -> dict[str, Any]:
    manifest, numbers = files.manifest, files.manifest.parameters
    drawn = [part for part in DRAWN if part == "step" or part in manifest.parts]
    sizes = [files.open("step").size, *(manifest.files[part].bytes for part in PARTS if part in drawn and
                                        part in manifest.files)]  # fmt: skip
    return {
        "path": path, "family": manifest.model.family, "checkpoint_sha256": manifest.checkpoint.sha256,
        "shape": list(manifest.shape), "precision": manifest.precision,
        "plan": str(manifest.plan), "archive": manifest.archive is not None,
        "parameters": {"total": numbers.total, "per_image": numbers.per_image, "per_row": numbers.per_row,
                       "per_step": numbers.per_step},
        "file_bytes": sum(sizes),
    }  # fmt: skip
