"""The command `export-model`."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from typing import Any

from pixelsnail_infer import __version__
from pixelsnail_infer.checkpoints import load_checkpoint
from pixelsnail_infer.distributions import LogisticMixture
from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.export.checkpoint_options import (
    add_checkpoint_options,
    checkpoint_options,
    conditions_of,
    law_of,
)
from pixelsnail_infer.export.exporting import export_model
from pixelsnail_infer.export.report import checks_table, files_table, stages_table

__all__ = ["main"]

_HELP = """\
Turn a trained PixelSNAIL or PixelCNN checkpoint into graphs that sample fast.

  export-model top.pt top.onnx
  export-model digits.pt digits.onnx --n-head 4
  export-model params_cifar.ckpt cifar.onnx --arch h12_noup_smallkey

Writes OUT.onnx (one pixel), OUT.row.onnx (once per row), OUT.score.onnx (likelihoods), OUT.filtered.onnx (one pixel,
with top-k and top-p; codes only) and, for models with conditions, OUT.prologue.onnx (once per image). The model is
recognised from the checkpoint's tensors, the graphs are proven equal to PyTorch, and nothing is written unless all
proofs hold.

The checkpoint is loaded without running anything that it says. Then, without PyTorch:

  pixelsnail-infer sample top.onnx --n 16 --seed 0 -o grid.png

Exit codes: 0 done, 1 the input or the result is bad (one line says why), 2 wrong usage."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code. Errors are one line on stderr."""
    parser = argparse.ArgumentParser(prog="export-model", description=_HELP,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", metavar="CKPT", help="the trained model (.pt)")
    parser.add_argument("output", metavar="OUT.onnx", help="the step graph; the other files are named after it")
    parser.add_argument("-q", "--quiet", action="store_true", help="print errors only")
    parser.add_argument("--version", action="version", version=f"export-model {__version__}")
    add_checkpoint_options(parser)
    args = parser.parse_args(argv)
    if not args.output.endswith(".onnx"):
        parser.error(f"OUT.onnx is {args.output!r}; its name must end in .onnx")
    try:
        _export(args)
        return 0
    except PixelsnailError as error:
        print(f"export-model: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("export-model: interrupted; nothing was written", file=sys.stderr)
        return 130


def _export(args: argparse.Namespace) -> None:
    started = time.monotonic()

    def say(line: str) -> None:
        if not args.quiet:
            print(f"[{time.monotonic() - started:6.1f} s] {line}", file=sys.stderr, flush=True)

    def out(text: str) -> None:
        if not args.quiet:
            print(text)

    say(f"reading {args.checkpoint}")
    checkpoint = load_checkpoint(args.checkpoint, options=checkpoint_options(args))
    law, shape = law_of(checkpoint, args.round), checkpoint.config.shape
    what = f"pixels of {law.channels} channels, mixtures of {law.n_mix} logistics" if isinstance(law, LogisticMixture) \
        else f"codes, {law.parameters} levels"
    out(f"recognised a {checkpoint.family} of {shape[0]}x{shape[1]} {what}")
    for finding in checkpoint.findings:
        out(f"  {finding}")
    result = export_model(
        checkpoint.module, args.output, distribution=law, shape=shape, conditions=conditions_of(checkpoint),
        family=checkpoint.family, config=_plain(dataclasses.asdict(checkpoint.config)),
        checkpoint_sha256=checkpoint.sha256, notes=checkpoint.findings, say=say)
    out(stages_table(result.manifest))
    out(checks_table(result.checks))
    out(files_table(result.files))
    say("done")


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()}


if __name__ == "__main__":
    sys.exit(main())
