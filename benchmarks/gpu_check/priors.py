"""All parts of one prior."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from agreement import drawn, proven
from latency import memory, times
from models import Case, case
from rivals import image_seconds, methods

from pixelsnail_infer.runtime import Sampler, load
from pixelsnail_infer.runtime.backends.graphs import GraphSet
from pixelsnail_infer.runtime.backends.torch_cuda import CudaQueue, TorchCudaBackend
from pixelsnail_infer.runtime.files.archive_files import ArchiveFiles

FORMATS = {"torch": "torchscript", "onnxruntime": "onnx", "tensorrt": "onnx"}


def check(name: str, args: argparse.Namespace, parts: Any) -> None:
    """Run every part of a network that the arguments ask for."""
    made: list[Case] = []
    parts.run(f"{name}, made", lambda: _made(name, args.out, made))
    if not made:
        return
    found = made[0]
    for engine in filter(None, args.engines.split(",")):
        for precision in filter(None, args.precisions.split(",")):
            _engine(found, engine, precision, args, parts)
    if args.device.startswith("cuda"):
        parts.run(f"{name}, torch float32, without CUDA graphs", lambda: _plain(found, args))
    for how in methods(args.device, args.compiled):
        parts.run(f"{name}, full canvas, {how}", lambda how=how: image_seconds(found, args.device, how))


def _made(name: str, folder: Path, made: list[Case]) -> dict[str, Any]:
    made.append(case(name, folder))
    return {"parameters": sum(p.numel() for p in made[0].module.parameters())}


def _engine(found: Case, engine: str, precision: str, args: argparse.Namespace, parts: Any) -> None:
    head = f"{found.name}, {engine} {precision}"

    def opened(device: str) -> Sampler:
        return load(found.export(FORMATS[engine], precision), device=device, backend=engine)

    def agreement() -> dict[str, Any]:
        with load(found.export("torchscript"), backend="torch") as cpu, opened(args.device) as other:
            return drawn(found, cpu, other)

    def proofs() -> dict[str, Any]:
        with opened(args.device) as other:
            return proven(found, other)

    parts.run(f"{head}, draws beside the CPU's", agreement)
    if precision == "float32" and not args.no_proofs:
        parts.run(f"{head}, proofs", proofs)
    for batch in map(int, args.batches.split(",")):

        def measured(batch: int = batch) -> dict[str, Any]:
            with opened(args.device) as sampler:
                return {**times(found, sampler, args.device, batch), **memory(args.device)}

        parts.run(f"{head}, batch {batch}", measured)


def _plain(found: Case, args: argparse.Namespace) -> dict[str, Any]:
    """At batch 1, every kernel launched by the host."""
    files = ArchiveFiles(found.export("torchscript"))
    backend = TorchCudaBackend(args.device, queue=Launched(torch.device(args.device)))
    with Sampler(files.manifest, backend, GraphSet(files, backend)) as sampler:
        return dict(times(found, sampler, args.device, 1))


class Launched(CudaQueue):
    """A stream on which nothing is captured."""

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        return work
