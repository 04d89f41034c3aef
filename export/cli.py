"""The command `export-model`."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from typing import Any

from pixelsnail_infer import __version__
from pixelsnail_infer.checkpoints import CheckpointOptions, LoadedCheckpoint, load_checkpoint
from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.export.exporting import export_model
from pixelsnail_infer.export.report import checks_table, files_table, stages_table
from pixelsnail_infer.manifest import ConditionSpec

__all__ = ["add_checkpoint_options", "checkpoint_options", "conditions_of", "main"]

_HELP = """\
Turn a trained PixelSNAIL checkpoint into graphs that sample fast.

  export-model top.pt top.onnx
  export-model digits.pt digits.onnx --n-head 4

Writes OUT.onnx (one pixel), OUT.row.onnx (once per row), OUT.score.onnx (likelihoods), OUT.filtered.onnx (one pixel,
with top-k and top-p) and, for models with conditions, OUT.prologue.onnx (once per image). The model is recognised from
the checkpoint's tensors, the graphs are proven equal to PyTorch, and nothing is written unless all proofs hold.

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


def add_checkpoint_options(parser: argparse.ArgumentParser) -> None:
    """What a checkpoint cannot tell of its model."""
    group = parser.add_argument_group("what the checkpoint may not say")
    group.add_argument("--n-head", type=int, help="attention heads (default: the file's, else 8)")
    group.add_argument("--elu-inplace", action="store_true",
                       help="the model was trained with in-place ELU, as files from before July 2020 were")
    group.add_argument("--upsample", type=int, help="factor from the condition's grid to the canvas (default 2)")
    group.add_argument("--no-condition", action="store_true",
                       help="leave the condition out although the file has weights for it")
    group.add_argument("--shape", metavar="HxW", help="check that the canvas is this one")


def checkpoint_options(args: argparse.Namespace) -> CheckpointOptions:
    """The parsed options. Raises `PixelsnailError` for a malformed shape."""
    given: dict[str, Any] = {"n_head": args.n_head, "upsample": args.upsample}
    if args.shape is not None:
        sides = args.shape.lower().split("x")
        if len(sides) != 2 or not all(s.isdecimal() and int(s) > 0 for s in sides):
            raise PixelsnailError(f"--shape is {args.shape!r}, expected rows x columns such as 32x32.")
        given["shape"] = (int(sides[0]), int(sides[1]))
    given = {name: value for name, value in given.items() if value is not None}
    return CheckpointOptions(elu_inplace=args.elu_inplace, no_condition=args.no_condition, **given)


def conditions_of(checkpoint: LoadedCheckpoint) -> tuple[ConditionSpec, ...]:
    """The conditions that the network's forward takes by name."""
    config = checkpoint.config
    specs = []
    for name, shape in config.condition_shapes.items():
        levels = config.n_label if name == "label" else config.levels
        specs.append(ConditionSpec(name, "codes" if shape else "class", tuple(shape), "int64", levels))
    return tuple(specs)


def _export(args: argparse.Namespace) -> None:
    started = time.monotonic()
    say = (lambda line: None) if args.quiet else lambda line: print(f"[{time.monotonic() - started:6.1f} s] {line}",
                                                                     file=sys.stderr, flush=True)
    out = (lambda text: None) if args.quiet else print
    say(f"reading {args.checkpoint}")
    checkpoint = load_checkpoint(args.checkpoint, options=checkpoint_options(args))
    config = checkpoint.config
    out(f"recognised a {checkpoint.family} of {config.shape[0]}x{config.shape[1]} codes, {config.levels} levels")
    for finding in checkpoint.findings:
        out(f"  {finding}")
    result = export_model(
        checkpoint.module, args.output, levels=config.levels, shape=config.shape, conditions=conditions_of(checkpoint),
        family=checkpoint.family, config=_plain(dataclasses.asdict(config)), checkpoint_sha256=checkpoint.sha256,
        notes=checkpoint.findings, say=say)
    out(stages_table(result.manifest))
    out(checks_table(result.checks))
    out(files_table(result.files))
    say("done")


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()}


if __name__ == "__main__":
    sys.exit(main())
