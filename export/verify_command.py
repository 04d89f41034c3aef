"""Prove again that an export equals its checkpoint: replay, score and draw against PyTorch, at every position."""

from __future__ import annotations

import argparse
import sys

from pixelsnail_infer.checkpoints import load_checkpoint
from pixelsnail_infer.checkpoints.tf_bundle import bundle_prefix
from pixelsnail_infer.distributions import distribution_of
from pixelsnail_infer.errors import VerificationError
from pixelsnail_infer.export.codecs.command import is_codec, verify_part
from pixelsnail_infer.export.proofs.reference import Reference
from pixelsnail_infer.export.proofs.verify import verify_files
from pixelsnail_infer.export.report import checks_table
from pixelsnail_infer.export.source.checkpoint_options import add_checkpoint_options, checkpoint_options
from pixelsnail_infer.export.source.option_scope import refuse_idle_options
from pixelsnail_infer.export.source.source_model import SourceModel, own_model, recognised_model
from pixelsnail_infer.runtime import Sampler, load

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("model", metavar="OUT.onnx", help="the step file of an export")
    parser.add_argument("checkpoint", metavar="CKPT", help="the checkpoint that it was made from")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the graphs run (default cpu)")
    add_checkpoint_options(parser)


def run(args: argparse.Namespace) -> int:
    """Verify; 0 when every proof holds. Raises `VerificationError` when one fails."""
    if is_codec(args.model):
        return verify_part(args)
    with load(args.model, device=args.device) as sampler:
        manifest = sampler.manifest
        if args.own_model is not None:
            with own_model(args, manifest) as source:
                return _verify(args, sampler, source)
        checkpoint = load_checkpoint(args.checkpoint, options=checkpoint_options(args))
        refuse_idle_options(args, checkpoint, bundle_prefix(args.checkpoint) is not None)
        rounded = manifest.distribution.round or False
        return _verify(args, sampler, recognised_model(checkpoint, rounded))


def _verify(args: argparse.Namespace, sampler: Sampler, source: SourceModel) -> int:
    manifest, found = sampler.manifest, source.sha256
    if found != manifest.checkpoint.sha256:
        raise VerificationError(f"{args.model} was made from another checkpoint (sha256 "
                                f"{manifest.checkpoint.sha256[:12]}…, {args.checkpoint} has {found[:12]}…).")
    reference = Reference(source.module, None, manifest.shape, distribution_of(manifest), source.conditions)
    checks = verify_files(sampler, reference, lambda line: print(line, file=sys.stderr, flush=True))
    print(checks_table(checks))
    return 0
