"""The networks that are checked: the shipped digits, and published shapes with random weights made on the spot."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch

from pixelsnail_infer.checkpoints import load_checkpoint
from pixelsnail_infer.export.artifacts import Artifacts, staging_folder
from pixelsnail_infer.export.compile import Compiled
from pixelsnail_infer.export.exporting import _manifest
from pixelsnail_infer.export.source.source_model import SourceModel, recognised_model
from pixelsnail_infer.export.staging import _compiled
from pixelsnail_infer.export.tracing.forward import Forward
from pixelsnail_infer.plan import Plan

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SMALL = ["--shape", "8", "8", "--levels", "16", "--channel", "32", "--res-channel", "32", "--n-block", "1"]
PRIOR, SNAIL, PIXELCNNPP = "make_stock_prior.py", "make_stock_snail.py", "make_stock_pixelcnnpp.py"
MADE: dict[str, tuple[str, ...]] = {
    "top": (PRIOR,),
    "bottom": (PRIOR, "--shape", "64", "64", "--no-attention", "--condition", "codes"),
    "rgb": (SNAIL, "--arch", "h12_noup_smallkey"),
    "pixelcnnpp": (PIXELCNNPP,),
    "small": (PRIOR, *SMALL),
    "small-pixelcnnpp": (PIXELCNNPP, "--shape", "8", "8", "--nr-filters", "16", "--nr-resnet", "1"),
}
"""By name: the script of examples/ that makes the checkpoint, and its arguments."""
SUFFIX = {"torchscript": ".pt", "onnx": ".onnx"}


@dataclass
class Case:
    """A network and where its exports lie."""

    name: str
    source: SourceModel
    folder: Path
    written: set[Path] = field(default_factory=set)

    @property
    def module(self) -> torch.nn.Module:
        """The network in float32, on the CPU unless somebody moved it."""
        return self.source.module

    def compiled(self, precision: str = "float32") -> Compiled:
        """The staged program."""
        source = self.source
        plan = Plan(precision=precision)
        return _compiled(source.module.cpu(), Forward(None), source, plan, wave=False)  # type: ignore[arg-type]

    def export(self, format: str, precision: str = "float32", compiled: Compiled | None = None) -> Path:
        """The files of an export, of a program that is `compiled` already or not, written when they are first asked
        for. Nothing is proven here: `export-model` does that on every machine; this is about engines."""
        target = self.folder / f"{self.name}.{precision}{SUFFIX[format]}"
        if target in self.written:
            return target
        source, plan = self.source, Plan(precision=precision)
        compiled = compiled or self.compiled(precision)
        with staging_folder(target, format) as folder:
            artifacts = Artifacts(compiled, folder, {format: target})
            artifacts.write(_manifest(source.module, source.distribution, source.shape, source.conditions, plan,
                                      source.family, source.config, source.sha256, ()))
            artifacts.publish()
        self.written.add(target)
        return target


def case(name: str, folder: Path, made: tuple[str, ...] | None = None) -> Case:
    """The network of this name, whose files go into `folder`. `made` is as in `MADE`, where the name is not there."""
    checkpoint = EXAMPLES / f"{name}.pt"
    made = made or MADE.get(name)
    if made:
        checkpoint = folder / f"made-{name}.pt"
        if not checkpoint.exists():
            script, *arguments = made
            command = [sys.executable, str(EXAMPLES / script), str(checkpoint), *arguments]
            subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)})
    source = recognised_model(load_checkpoint(checkpoint), False)
    source.module.eval()
    return Case(name, source, folder)

