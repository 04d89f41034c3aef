"""Decoders and encoders from a checkpoint: the export of one half, and the proofs of an export again."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from pixelsnail_infer.checkpoints import LoadedCheckpoint, load_checkpoint
from pixelsnail_infer.codec import CodecManifest
from pixelsnail_infer.document import kind_of
from pixelsnail_infer.errors import VerificationError
from pixelsnail_infer.export.codecs.exporting import export_codec, verify_codec
from pixelsnail_infer.export.codecs.verify import CodecReference
from pixelsnail_infer.export.exported import Exported
from pixelsnail_infer.export.proofs.verify import Check
from pixelsnail_infer.export.source.option_scope import refuse_idle_options
from pixelsnail_infer.export.source.options import ExportOptions, SourceOptions
from pixelsnail_infer.export.source.source_model import listed, plain_config
from pixelsnail_infer.manifest import METADATA_KEY
from pixelsnail_infer.runtime.codecs.codec import read_codec
from pixelsnail_infer.runtime.files.archive_files import read_file

__all__ = ["export_half", "kind_at", "verify_half"]


def kind_at(path: str) -> str | None:
    """What kind of model the file says it is an export of. Raises `GraphFileError` when it is no whole graph file."""
    text = read_file(path, "graph").metadata.get(METADATA_KEY)
    return None if text is None else kind_of(text)


def export_half(checkpoint: LoadedCheckpoint, output: str | os.PathLike[str], options: ExportOptions,
                say: Callable[[str], None], found: Callable[[str], None]) -> Exported[CodecManifest]:
    """Export a checkpoint's decoder, or its encoder where the `part` is that. Raises what `export_codec` raises."""
    kind = options.part or "decoder"
    head = f"recognised a {checkpoint.family}; this is its {kind}"
    for line in (head, *listed(checkpoint.findings, checkpoint.beside)):
        found(line)
    return export_codec(
        checkpoint.module, os.fsdecode(output), kind=kind, family=checkpoint.family,
        config=plain_config(checkpoint.config), checkpoint_sha256=checkpoint.sha256, notes=checkpoint.findings,
        plan=options.plan, format=options.format, say=say)


def verify_half(exported: str, path: str | os.PathLike[str], options: SourceOptions,
                say: Callable[[str], None], *, device: str, backend: str) -> tuple[Check, ...]:
    """Prove again that a decoder or an encoder is its checkpoint's.

    What the checkpoint does not tell is taken from the manifest where it is not given. Raises `VerificationError`.
    """
    manifest = read_codec(exported)[1]
    checkpoint = load_checkpoint(path, options=_as_exported(options, manifest))
    refuse_idle_options(options, path, checkpoint)
    if checkpoint.sha256 != manifest.checkpoint.sha256:
        raise VerificationError(
            f"{exported} was made from another checkpoint (sha256 {manifest.checkpoint.sha256[:12]}…, "
            f"{os.fsdecode(path)} has {checkpoint.sha256[:12]}…).")
    return tuple(verify_codec(exported, manifest.kind, CodecReference(checkpoint.module), say, device=device,
                              backend=backend))


def _as_exported(options: SourceOptions, manifest: CodecManifest) -> SourceOptions:
    inplace = manifest.model.config.get("relu_inplace")
    if options.shape is None:
        options = replace(options, shape=manifest.image.shape)
    if options.relu_inplace is None and isinstance(inplace, bool):
        options = replace(options, relu_inplace=inplace)
    return options
