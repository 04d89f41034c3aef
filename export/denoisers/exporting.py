"""Export a denoiser: write its two files, prove them, move them into place."""

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
from pixelsnail_infer.codec import ImageSpec
from pixelsnail_infer.denoiser import DENOISER, LABEL, LOW_RES, DenoiserManifest
from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.export.artifacts import staging_folder
from pixelsnail_infer.export.denoisers.files import DENOISER_FORMATS, DenoiserFormat
from pixelsnail_infer.export.denoisers.reference import DenoiserReference
from pixelsnail_infer.export.denoisers.verify import verify_denoiser, verify_sums
from pixelsnail_infer.export.exported import Exported
from pixelsnail_infer.export.exporting import module_sha256
from pixelsnail_infer.export.plans import check_denoiser_plan
from pixelsnail_infer.export.writing.formats import DEFAULT_FORMAT, check_outputs
from pixelsnail_infer.manifest import CheckpointSpec, ConditionSpec, ModelSpec
from pixelsnail_infer.models.unet import UNet
from pixelsnail_infer.models.unet_config import UNetConfig
from pixelsnail_infer.plan import DEFAULT_PLAN, Plan

__all__ = ["export_denoiser"]


def export_denoiser(
    module: UNet,
    target: str | Path,
    *,
    config: dict[str, Any] | None = None,
    checkpoint_sha256: str | None = None,
    notes: Sequence[str] = (),
    plan: Plan = DEFAULT_PLAN,
    format: str = DEFAULT_FORMAT,
    say: Callable[[str], None] = lambda line: None,
) -> Exported[DenoiserManifest]:
    """Export a denoising U-Net to the file `target` and the part `times` beside it, and verify them. In the `format`
    "torchscript" both are in one archive.

    The module is copied and never changed. Nothing is left behind when anything fails. Raises `ModelError` when PyTorch
    cannot export it, it is too large for one file, or for a plan or format that denoisers do not have;
    `VerificationError`, or `PixelsnailError` when the files cannot be written.
    """
    check_denoiser_plan(plan)
    if format not in DENOISER_FORMATS:
        raise ModelError(f"format is {format!r}, expected {' or '.join(map(repr, DENOISER_FORMATS))} for a {DENOISER}.")
    check_outputs(Path(target), format)
    if not isinstance(module, UNet):
        raise ModelError(f"a {type(module).__name__} cannot be exported as a denoiser; give a UNet.")
    target, reference = Path(target), DenoiserReference(module)
    with staging_folder(target, format) as folder:
        checks = verify_sums(reference, say)
        say("writing the graphs of the step and the times")
        written = DENOISER_FORMATS[format](module)
        manifest = _manifest(module, written, config or {}, checkpoint_sha256, notes)
        path = folder / target.name
        written.write(manifest, path)
        checks += verify_denoiser(path, reference, say)
        report = {check.name: {k: v for k, v in asdict(check).items() if k != "name"} for check in checks}
        staged = written.write(replace(manifest, verification=report), path)
        files = tuple(target.parent / file.name for file in staged)
        for file, place in reversed(list(zip(staged, files, strict=True))):  # the step, which names the other, last
            os.replace(file, place)
    return Exported(replace(manifest, verification=report), files, tuple(checks))


def _manifest(module: UNet, written: DenoiserFormat, config: dict[str, Any], sha256: str | None, notes: Sequence[str]
              ) -> DenoiserManifest:
    from_module = module.config
    versions = {"torch": str(torch.__version__), "onnx": onnx.__version__, "onnxscript": version("onnxscript")}
    return DenoiserManifest(
        kind=DENOISER, model=ModelSpec(DENOISER, config), image=ImageSpec(from_module.channels, from_module.shape),
        conditions=_conditions(from_module), diffusion=from_module.diffusion, projections=module.told,
        precision=DEFAULT_PLAN.precision, files=written.files, archive=written.archive,
        checkpoint=CheckpointSpec(sha256 or module_sha256(module)),
        parameters=sum(parameter.numel() for parameter in module.parameters()), notes=tuple(notes),
        versions={"pixelsnail_infer": __version__, **{name: versions[name] for name in written.versions}})


def _conditions(config: UNetConfig) -> tuple[ConditionSpec, ...]:
    found = []
    if config.classes is not None:
        found.append(ConditionSpec(LABEL, "class", (), "int64", config.classes))
    if config.low_res is not None:
        found.append(ConditionSpec(LOW_RES, "map", (config.channels, *config.low_res), "float32"))
    return tuple(found)
