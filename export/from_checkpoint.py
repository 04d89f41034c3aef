"""One call from a checkpoint to the files of its export, or to the proofs of an export that is there already."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pixelsnail_infer.checkpoints import load_checkpoint
from pixelsnail_infer.checkpoints.option import read_options
from pixelsnail_infer.codec import CODEC_KINDS, CodecManifest
from pixelsnail_infer.denoiser import DENOISER, DenoiserManifest
from pixelsnail_infer.distributions import distribution_of
from pixelsnail_infer.errors import PixelsnailError, VerificationError
from pixelsnail_infer.export.codecs.from_checkpoint import export_half, kind_at, verify_half
from pixelsnail_infer.export.denoisers.from_checkpoint import export_from_checkpoint, verify_again
from pixelsnail_infer.export.exported import Exported
from pixelsnail_infer.export.exporting import export_model
from pixelsnail_infer.export.proofs.bits import drawn_images, measured_bits
from pixelsnail_infer.export.proofs.reference import Reference
from pixelsnail_infer.export.proofs.verify import Check, verify_files
from pixelsnail_infer.export.proofs.verify_waves import verify_wave_files
from pixelsnail_infer.export.source.arguments import with_options
from pixelsnail_infer.export.source.option_scope import refuse_idle_measures, refuse_idle_options, refuse_row_form
from pixelsnail_infer.export.source.options import CODECS, ExportOptions, SourceOptions
from pixelsnail_infer.export.source.source_model import (
    SourceModel,
    as_exported,
    describe,
    own_model,
    recognised_model,
)
from pixelsnail_infer.export.writing.formats import BOTH, check_outputs, names_of
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime import Sampler, load

__all__ = ["check_output", "export_checkpoint", "verify_export"]

FilePath = str | os.PathLike[str]
Hear = Callable[[str], None]


def _silent(line: str) -> None:
    """Hears nothing."""


@with_options(ExportOptions)
def export_checkpoint(path: FilePath, output: FilePath, *, say: Hear = _silent, found: Hear = _silent, **options: Any
                      ) -> Exported[Manifest | CodecManifest | DenoiserManifest]:
    """Export the model in the checkpoint `path`, as the command `export-model` does, and verify it.

    The model is recognised from the checkpoint's tensors, or it is a `model` of your own. `output`, whose name ends in
    .onnx, is the step file, and its siblings lie beside it; of a VQ-VAE or a VQ first stage, and in the format
    torchscript, where it ends in .pt, it is the one file; in the format both it may end in either. `found` hears, line
    by line and before the work begins, what was recognised and what of it is assumed; `say` hears what is going on.
    Nothing is left behind when anything fails. The checkpoint is loaded without running anything that it says, unless
    `unsafe_pickle` asks for it; the file of `model` is run. It is never written over.

    Raises `RequestError` for an option that is unknown or cannot be read, `CheckpointError`, what `export_model` and
    `export_codec` raise, and `PixelsnailError` for an option that has no meaning for the model.

    The options have the names of the command's: `n_head` is its `--n-head`, which is also how messages spell it. Sizes
    may be given as there, as text; `condition` also as a dict, `{"label": "class:10"}`.
    """
    asked = read_options(ExportOptions, options, "export_checkpoint")
    check_output(path, output, asked.format, asked.ema_file)
    refuse_idle_measures(asked)
    say(f"reading {os.fsdecode(path)}")
    if asked.model is not None:
        with own_model(path, asked) as source:
            return _export(source, output, asked, say, found)
    checkpoint = load_checkpoint(path, options=asked)
    refuse_idle_options(asked, path, checkpoint)
    if checkpoint.family in CODECS:
        refuse_row_form(asked, checkpoint.family)
        if asked.format == BOTH:
            raise PixelsnailError("decoders and encoders are written in one format at a time: leave out --format both, "
                                  "or export twice.")
        return export_half(checkpoint, output, asked, say, found)
    if checkpoint.family == DENOISER:
        return export_from_checkpoint(checkpoint, output, asked, say, found)
    return _export(recognised_model(checkpoint, asked.round), output, asked, say, found)


def check_output(path: FilePath, output: FilePath, name: str, averages: FilePath | None = None) -> None:
    """Raise `PixelsnailError` unless an export of the checkpoint `path`, and of the `averages` in a file of their own,
    may be called `output` in the format `name`: by its ending, because it writes over neither of them, and as
    `check_outputs` says."""
    target = Path(os.fsdecode(output))
    for file in names_of(target, name):
        if _same(path, file) or (averages is not None and _same(averages, file)):
            which = "the file" if file == target else "a file"
            raise PixelsnailError(f"{which} to write is {str(file)!r}, the checkpoint itself; name another.")
    check_outputs(target, name)


def _same(path: FilePath, other: FilePath) -> bool:
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):  # one of them is not there
        return False


def _export(source: SourceModel, output: FilePath, options: ExportOptions, say: Hear, found: Hear
            ) -> Exported[Manifest]:
    for line in describe(source):
        found(line)
    return export_model(
        source.module, os.fsdecode(output), distribution=source.distribution, shape=source.shape,
        conditions=source.conditions, family=source.family, config=source.config, checkpoint_sha256=source.sha256,
        notes=source.findings, plan=options.plan, format=options.format, schedule=options.schedule,
        codes=options.codes, calibrate=options.calibrate, max_bpd_change=options.max_bpd_change,
        row_form=options.row_form, say=say)


@with_options(SourceOptions)
def verify_export(exported: FilePath, checkpoint: FilePath, *, device: str = "cpu", backend: str = "auto",
                  say: Hear = _silent, **options: Any) -> tuple[Check, ...]:
    """Prove again that the export at `exported` (its step file, its decoder or its encoder) equals the `checkpoint`.

    `device` and `backend` say where the graphs run, as for `load`; `say` hears what is going on. Options are those that
    the export was made with; what a manifest tells is taken from there.

    Raises `VerificationError` when a proof fails or the checkpoint is another one, what `load` raises, and what
    `export_checkpoint` raises for a checkpoint and options.
    """
    asked, name = read_options(SourceOptions, options, "verify_export"), os.fsdecode(exported)
    kind = kind_at(name)
    if kind == DENOISER:
        return verify_again(name, checkpoint, asked, say, device=device, backend=backend)
    if kind in CODEC_KINDS:
        return verify_half(name, checkpoint, asked, say, device=device, backend=backend)
    where = {"device": device, "backend": backend}
    with load(name, kind="prior", device=device, backend=backend, schedule="raster") as sampler:
        if asked.model is not None:
            with own_model(checkpoint, as_exported(asked, sampler.manifest, name)) as source:
                return _verify(sampler, name, source, checkpoint, say, where)
        loaded = load_checkpoint(checkpoint, options=asked)
        refuse_idle_options(asked, checkpoint, loaded)
        rounded = sampler.manifest.distribution.round or False
        return _verify(sampler, name, recognised_model(loaded, rounded), checkpoint, say, where)


def _verify(sampler: Sampler, name: str, source: SourceModel, checkpoint: FilePath, say: Hear, where: dict[str, str]
            ) -> tuple[Check, ...]:
    manifest = sampler.manifest
    if source.sha256 != manifest.checkpoint.sha256:
        raise VerificationError(
            f"{name} was made from another checkpoint (sha256 {manifest.checkpoint.sha256[:12]}…, "
            f"{os.fsdecode(checkpoint)} has {source.sha256[:12]}…).")
    reference = Reference(source.module, None, manifest.shape, distribution_of(manifest), source.conditions)
    checks = verify_files(sampler, reference, say)
    if sampler.has_waves:
        with load(name, kind="prior", device=where["device"], backend=where["backend"],
                  schedule="wavefront") as waves:
            checks += verify_wave_files(waves, reference, say)
    if (bits := manifest.bits_per_dim) is not None:
        checks.append(measured_bits(sampler, reference, drawn_images(sampler, reference), bits.limit, say)[0])
    return tuple(checks)
