"""From the files that a command names to models with engines."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.drawing.loading import load
from pixelsnail_infer.runtime.engine.engine import Engine
from pixelsnail_infer.runtime.engine.pipeline_engine import PipelineEngine
from pixelsnail_infer.runtime.pipeline.loading import load_pipeline
from pixelsnail_infer.runtime.serving.served import Served, ServedPrior
from pixelsnail_infer.runtime.serving.served_pipeline import ServedPipeline

__all__ = ["EngineOptions", "Named", "load_models", "parse_named"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", re.ASCII)
_log = logging.getLogger("pixelsnail_infer.serving")


@dataclass(frozen=True, slots=True)
class Named:
    """The files of a model, and the name that clients know it by; several are those of a pipeline."""

    name: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Where models run, and the limits of their engines: see `load` and `Engine`."""

    device: str = "cpu"
    backend: str = "auto"
    threads: int | None = None
    slots: int = 16
    queue: int = 256
    memory: int = 256 << 20


def parse_named(text: str) -> Named:
    """`FILE.onnx`, known by its name without the ending, or `NAME=FILE.onnx`; several files, with commas between, are a
    pipeline. Raises `ValueError`."""
    name, separator, files = text.partition("=")
    if not separator:
        name, files = Path(text.split(",")[0]).stem, text
    paths = tuple(files.split(","))
    if not all(paths):
        raise ValueError(f"{shown(text)} names a file that has no name; write FILE.onnx, or NAME=FILE.onnx,FILE.onnx")
    if not _NAME.fullmatch(name):
        what = "letters, digits, '.', '_' and '-', at most 64"
        raise ValueError(f"{shown(text)} gives the name {shown(name)}, expected {what}; write NAME=FILE.onnx")
    return Named(name, paths)


def load_models(models: Sequence[Named], options: EngineOptions) -> dict[str, Served]:
    """Load every model and start its engine. Raises what `load` and `Engine` raise, and `RequestError` for a name that
    is there twice; then no engine is left."""
    found: dict[str, Served] = {}
    try:
        for named in models:
            if named.name in found:
                raise RequestError(f"Two models are named {named.name}; write NAME=FILE.onnx for one of them.")
            found[named.name] = _load(named, options)
            _log.info("loaded", extra={"told": {"model": named.name}})
    except BaseException:
        for served in found.values():
            served.close()
        raise
    return found


def _load(named: Named, options: EngineOptions) -> Served:
    where: Any = {"device": options.device, "backend": options.backend, "threads": options.threads}
    limits: Any = {"slots": options.slots, "queue": options.queue, "memory": options.memory}
    files = tuple(Path(path).name for path in named.paths)
    if len(named.paths) == 1:
        return ServedPrior(named.name, files, Engine(load(named.paths[0], **where), **limits))
    with ExitStack() as opened:
        pipeline = opened.enter_context(load_pipeline(named.paths, **where))
        engine = opened.enter_context(PipelineEngine(pipeline, **limits))
        served = ServedPipeline(named.name, files, pipeline, engine)
        opened.pop_all()
    return served
