"""What the commands do with decoders and encoders: the options, the export, and the proofs of an export again."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace

from pixelsnail_infer.checkpoints import CheckpointOptions, LoadedCheckpoint, load_checkpoint
from pixelsnail_infer.codec import CODEC_KINDS, CodecManifest
from pixelsnail_infer.document import kind_of
from pixelsnail_infer.errors import VerificationError
from pixelsnail_infer.export.codecs.exporting import export_codec, verify_codec
from pixelsnail_infer.export.codecs.verify import CodecReference
from pixelsnail_infer.export.report import checks_table, files_table
from pixelsnail_infer.export.source.checkpoint_options import checkpoint_options
from pixelsnail_infer.export.source.option_scope import CODECS, refuse_idle_options
from pixelsnail_infer.export.source.source_model import listed, plain_config
from pixelsnail_infer.manifest import METADATA_KEY
from pixelsnail_infer.runtime.codecs.codec import read_codec
from pixelsnail_infer.runtime.files.graphfile import read_graph

__all__ = ["export_part", "is_codec", "verify_part"]


def is_codec(path: str) -> bool:
    """Whether the file is an exported decoder or encoder. Raises `GraphFileError` when it is no whole graph file."""
    text = read_graph(path).metadata.get(METADATA_KEY)
    return text is not None and kind_of(text) in CODEC_KINDS


def export_part(checkpoint: LoadedCheckpoint, args: argparse.Namespace, say: Callable[[str], None]) -> bool:
    """Export a checkpoint's decoder, or its encoder with `--part encoder`; False where it is a prior and has neither.

    Raises what `export_codec` raises.
    """
    if checkpoint.family not in CODECS:
        return False
    kind = args.part or "decoder"
    if not args.quiet:
        print("\n".join([f"recognised a {checkpoint.family}; this is its {kind}", *listed(checkpoint.findings)]))
    result = export_codec(
        checkpoint.module, args.output, kind=kind, family=checkpoint.family, config=plain_config(checkpoint.config),
        checkpoint_sha256=checkpoint.sha256, notes=checkpoint.findings, say=say)
    if not args.quiet:
        print(f"parameters of the {kind}: {result.manifest.parameters:,}")
        print(checks_table(result.checks))
        print(files_table([result.file]))
    say("done")
    return True


def verify_part(args: argparse.Namespace) -> int:
    """Prove again that a decoder or an encoder is its checkpoint's; 0 when every proof holds.

    What the checkpoint does not tell is taken from the manifest where it is not given. Raises `VerificationError`.
    """
    manifest = read_codec(args.model)[1]
    checkpoint = load_checkpoint(args.checkpoint, options=_as_exported(args, manifest))
    refuse_idle_options(args, checkpoint, False)
    if checkpoint.sha256 != manifest.checkpoint.sha256:
        raise VerificationError(
            f"{args.model} was made from another checkpoint (sha256 {manifest.checkpoint.sha256[:12]}…, "
            f"{args.checkpoint} has {checkpoint.sha256[:12]}…).")
    checks = verify_codec(args.model, manifest.kind, CodecReference(checkpoint.module),
                          lambda line: print(line, file=sys.stderr, flush=True), args.device)
    print(checks_table(checks))
    return 0


def _as_exported(args: argparse.Namespace, manifest: CodecManifest) -> CheckpointOptions:
    options, inplace = checkpoint_options(args), manifest.model.config.get("relu_inplace")
    if options.shape is None:
        options = replace(options, shape=manifest.image.shape)
    if options.relu_inplace is None and isinstance(inplace, bool):
        options = replace(options, relu_inplace=inplace)
    return options
