"""Denoisers from a checkpoint: the export, and the proofs of an export again."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from pixelsnail_infer.checkpoints import LoadedCheckpoint, load_checkpoint
from pixelsnail_infer.denoiser import DENOISER, LOW_RES, DenoiserManifest
from pixelsnail_infer.errors import VerificationError
from pixelsnail_infer.export.denoisers.exporting import export_denoiser
from pixelsnail_infer.export.denoisers.reference import DenoiserReference
from pixelsnail_infer.export.denoisers.verify import verify_denoiser, verify_sums
from pixelsnail_infer.export.exported import Exported
from pixelsnail_infer.export.proofs.verify import Check
from pixelsnail_infer.export.source.option_scope import refuse_idle_options
from pixelsnail_infer.export.source.options import ExportOptions, SourceOptions
from pixelsnail_infer.export.source.source_model import listed, plain_config
from pixelsnail_infer.models.unet import UNet
from pixelsnail_infer.runtime.denoising.files import DenoiserFiles

__all__ = ["export_from_checkpoint", "verify_again"]


def export_from_checkpoint(checkpoint: LoadedCheckpoint, output: str | os.PathLike[str], options: ExportOptions,
                           say: Callable[[str], None], found: Callable[[str], None]) -> Exported[DenoiserManifest]:
    """Export a checkpoint's denoiser. Raises what `export_denoiser` raises."""
    assert isinstance(checkpoint.module, UNet)
    for line in (f"recognised a {DENOISER}", *listed(checkpoint.findings, checkpoint.beside)):
        found(line)
    return export_denoiser(
        checkpoint.module, os.fsdecode(output), config=plain_config(checkpoint.config),
        checkpoint_sha256=checkpoint.sha256, notes=checkpoint.findings, plan=options.plan, format=options.format,
        say=say)


def verify_again(exported: str, path: str | os.PathLike[str], options: SourceOptions, say: Callable[[str], None], *,
                 device: str, backend: str) -> tuple[Check, ...]:
    """Prove again that a denoiser is its checkpoint's.

    What the checkpoint does not tell is taken from the manifest where it is not given. Raises `VerificationError`.
    """
    manifest = DenoiserFiles(exported).manifest
    checkpoint = load_checkpoint(path, options=_as_exported(options, manifest))
    refuse_idle_options(options, path, checkpoint)
    assert isinstance(checkpoint.module, UNet)
    if checkpoint.sha256 != manifest.checkpoint.sha256:
        raise VerificationError(
            f"{exported} was made from another checkpoint (sha256 {manifest.checkpoint.sha256[:12]}…, "
            f"{os.fsdecode(path)} has {checkpoint.sha256[:12]}…).")
    if checkpoint.config.diffusion != manifest.diffusion:
        raise VerificationError(f"{exported} was exported for another diffusion, {manifest.diffusion}; leave out the "
                                "options that say otherwise.")
    reference = DenoiserReference(checkpoint.module)
    return (*verify_sums(reference, say), *verify_denoiser(exported, reference, say, device=device, backend=backend))


def _as_exported(options: SourceOptions, manifest: DenoiserManifest) -> SourceOptions:
    diffusion, small = manifest.diffusion, [spec for spec in manifest.conditions if spec.name == LOW_RES]
    told: dict[str, Any] = {
        "shape": manifest.image.shape, "n_head": manifest.model.config.get("n_head"),
        "n_head_upsample": manifest.model.config.get("n_head_upsample"),
        "diffusion_steps": diffusion.steps, "noise_schedule": diffusion.noise_schedule, "predict": diffusion.predict,
        "rescale_timesteps": diffusion.rescale_timesteps,
        "sigma": diffusion.variance.removeprefix("fixed-") if diffusion.variance.startswith("fixed-") else None,
        "low_res": small[0].shape[1:] if small else None}
    lacking = {place.name for place in fields(options) if getattr(options, place.name) is None}
    return replace(options, **{name: value for name, value in told.items() if name in lacking})
