"""Graphs without their proofs, and engines of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from pixelsnail_infer.distributions import Distribution
from pixelsnail_infer.export.artifacts import Artifacts, build_part
from pixelsnail_infer.export.compile import compile_model
from pixelsnail_infer.export.tracing.trace import InputSpec
from pixelsnail_infer.export.writing.onnx_writer import write_onnx
from pixelsnail_infer.manifest import ConditionSpec

ENGINE = Path(__file__).with_name("engine.py")
TARGETS = ("8.0", "8.9", "12.0")


class EngineError(Exception):
    """TensorRT's parser or builder refused a graph, or ended its process."""


def build_engine(model: bytes, folder: Path) -> tuple[int, list[str]]:
    """Compile for all of TARGETS in a process of its own; the engine's bytes and the kinds of the network's layers."""
    path = folder / "model.onnx"
    path.write_bytes(model)
    command = [sys.executable, str(ENGINE), str(path), *TARGETS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    path.unlink()
    if done.returncode != 0:
        raise EngineError(f"the builder's process ended with {done.returncode}: {done.stderr[-2000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    if "error" in result:
        raise EngineError(result["error"])
    return result["size"], result["layers"]


def graphs(module: torch.nn.Module, law: Distribution, shape: tuple[int, int], conditions: tuple[ConditionSpec, ...]
           ) -> Iterator[tuple[str, Any]]:
    """Every part of a prior and its ONNX model, one after the other; nothing is verified."""
    dtypes = {"int64": torch.int64, "float32": torch.float32}
    pixels = InputSpec("pixels", (*law.pixel_shape, *shape), torch.float32) if law.pixel_shape else \
        InputSpec("pixels", shape, torch.int64, law.parameters)
    names = [spec.name for spec in conditions]
    specs = [InputSpec(spec.name, spec.shape, dtypes[spec.dtype], spec.levels) for spec in conditions]

    def forward(model: Any, x: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        return model(x, **dict(zip(names, given, strict=True)))

    compiled = compile_model(module.eval().requires_grad_(False), forward, (pixels, *specs), shape, law)
    for part in ("step", *Artifacts(compiled, Path(), "x.onnx").parts):
        yield part, write_onnx(build_part(compiled, part), {})
