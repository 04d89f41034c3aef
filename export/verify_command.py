"""Prove again that an export equals its checkpoint: replay, score and draw against PyTorch, at every position."""

from __future__ import annotations

import argparse
import sys

from pixelsnail_infer.export.from_checkpoint import verify_export
from pixelsnail_infer.export.report import checks_table
from pixelsnail_infer.export.source.arguments import add_options, given_options
from pixelsnail_infer.export.source.options import SourceOptions
from pixelsnail_infer.runtime.commands.options import add_choice

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("exported", metavar="OUT.onnx", help="the step file of an export, or its archive, OUT.pt")
    parser.add_argument("checkpoint", metavar="CKPT", help="the checkpoint that it was made from")
    add_choice(parser)
    add_options(parser, SourceOptions)


def run(args: argparse.Namespace) -> int:
    """Verify; 0 when every proof holds. Raises `VerificationError` when one fails."""
    checks = verify_export(args.exported, args.checkpoint, device=args.device, backend=args.backend,
                           say=lambda line: print(line, file=sys.stderr, flush=True),
                           **given_options(args, SourceOptions))
    print(checks_table(checks))
    return 0
