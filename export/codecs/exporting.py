"""Export a first stage's decoder or encoder: write one file, prove it, move it into place."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import torch

from pixelsnail_infer import __version__
from pixelsnail_infer.codec import CODEC_KINDS, CodecManifest
from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.export.artifacts import staging_folder
from pixelsnail_infer.export.codecs.files import HALF_FILES
from pixelsnail_infer.export.codecs.parts import FirstStageModule
from pixelsnail_infer.export.codecs.verify import CodecReference, verify_decoder, verify_encoder
from pixelsnail_infer.export.exported import Exported
from pixelsnail_infer.export.exporting import module_sha256
from pixelsnail_infer.export.plans import check_codec_plan
from pixelsnail_infer.export.proofs.verify import Check
from pixelsnail_infer.export.writing.formats import DEFAULT_FORMAT, check_outputs
from pixelsnail_infer.manifest import CheckpointSpec, ModelSpec
from pixelsnail_infer.plan import DEFAULT_PLAN, Plan
from pixelsnail_infer.runtime import load_decoder, load_encoder

__all__ = ["export_codec", "verify_codec"]


def export_codec(
    module: torch.nn.Module,
    target: str | Path,
    *,
    kind: str = "decoder",
    family: str = "custom",
    config: dict[str, Any] | None = None,
    checkpoint_sha256: str | None = None,
    notes: Sequence[str] = (),
    plan: Plan = DEFAULT_PLAN,
    format: str = DEFAULT_FORMAT,
    say: Callable[[str], None] = lambda line: None,
) -> Exported[CodecManifest]:
    """Export the `kind` "decoder" or "encoder" of a first stage to the file `target`, and verify it.

    `module` is a `VqVae` or a `FirstStage` of `pixelsnail_infer.models`, or any module with the members that
    `export/codecs/parts.py` names in `FirstStageModule`. It is copied and never changed. `plan` says how the graph
    computes (only its precision is recorded); in the `format` "torchscript" the file is an archive for PyTorch. `say`
    hears what is going on. Nothing is left behind when anything fails. Verification runs the file in its engine, which
    is ONNX Runtime for the format "onnx".

    Raises `ModelError` when PyTorch cannot export the module or it is too large for one file, `VerificationError`, or
    `PixelsnailError` when the file cannot be written.
    """
    check_codec_plan(plan)
    if format not in HALF_FILES:
        raise ModelError(f"format is {format!r}, expected {' or '.join(map(repr, HALF_FILES))} for a {kind}.")
    check_outputs(Path(target), format)
    target, first = Path(target), as_first_stage(module)
    if kind not in CODEC_KINDS:
        raise ModelError(f"kind is {kind!r}, expected one of {', '.join(CODEC_KINDS)}.")
    reference = CodecReference(module)
    with staging_folder(target, format) as folder:
        path = folder / target.name
        say(f"writing the {kind}")
        file = HALF_FILES[format](module, kind)
        manifest = file.filled(CodecManifest(
            kind=kind, model=ModelSpec(family, config or {}), image=first.config.image, codes=first.config.codes,
            precision=plan.precision, checkpoint=CheckpointSpec(checkpoint_sha256 or module_sha256(module)),
            parameters=0, versions=_versions(), notes=tuple(notes)))
        file.describe(manifest, path)
        checks = verify_codec(path, kind, reference, say)
        report = {check.name: {k: v for k, v in asdict(check).items() if k != "name"} for check in checks}
        manifest = replace(manifest, verification=report)
        file.describe(manifest, path)
        os.replace(path, target)
    return Exported(manifest, (target,), tuple(checks))


def verify_codec(path: str | Path, kind: str, reference: CodecReference, say: Callable[[str], None], *,
                 device: str = "cpu", backend: str = "auto") -> list[Check]:
    """The proofs of a written file, through the runtime. Raises `VerificationError` where one fails."""
    if kind == "decoder":
        with load_decoder(path, device=device, backend=backend) as decoder:
            return verify_decoder(decoder, reference, say)
    with load_encoder(path, device=device, backend=backend) as encoder:
        return verify_encoder(encoder, reference, say)


def as_first_stage(module: torch.nn.Module) -> FirstStageModule:
    """The module, which must have what the exporter asks of a first stage. Raises `ModelError`."""
    if missing := [name for name in ("config", "tables", "decode", "encode") if not hasattr(module, name)]:
        raise ModelError(
            f"{type(module).__name__} has no {missing[0]!r}, so it cannot be exported as a first stage; give a VqVae, "
            "a FirstStage, or a module with the members of FirstStageModule in export/codecs/parts.py.")
    return module  # type: ignore[return-value]


def _versions() -> dict[str, str]:
    return {"pixelsnail_infer": __version__, "torch": str(torch.__version__), "onnx": onnx.__version__,
            "onnxscript": version("onnxscript")}
