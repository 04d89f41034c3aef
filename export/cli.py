"""The command `export-model`."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Sequence

from pixelsnail_infer import __version__
from pixelsnail_infer.checkpoints import load_checkpoint
from pixelsnail_infer.checkpoints.tf_bundle import bundle_prefix
from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.export.codecs.command import export_part
from pixelsnail_infer.export.exporting import export_model
from pixelsnail_infer.export.report import checks_table, files_table, stages_table
from pixelsnail_infer.export.source.checkpoint_options import add_checkpoint_options, checkpoint_options
from pixelsnail_infer.export.source.option_scope import refuse_idle_options
from pixelsnail_infer.export.source.source_model import SourceModel, describe, own_model, recognised_model

__all__ = ["main"]

_HELP = """\
Turn a trained PixelSNAIL or PixelCNN checkpoint into graphs that sample fast.

  export-model top.pt top.onnx
  export-model digits.pt digits.onnx --n-head 4
  export-model params_cifar.ckpt cifar.onnx --arch h12_noup_smallkey
  export-model vqvae.pt decoder.onnx
  export-model vqvae.pt encoder.onnx --part encoder
  export-model my.pt my.onnx --model my_net.py:Net --model-args '{"width": 64}' --shape 32x32 --levels 512

Writes OUT.onnx (one pixel), OUT.row.onnx (once per row), OUT.score.onnx (likelihoods), OUT.filtered.onnx (one pixel,
with top-k and top-p; codes only) and, for models with conditions, OUT.prologue.onnx (once per image). Of a VQ-VAE or a
VQ first stage it writes one file, the decoder or the encoder. The model is recognised from the checkpoint's tensors,
the graphs are proven equal to PyTorch, and nothing is written unless all proofs hold.

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
    parser.add_argument("--traceback", action="store_true", help="on failure, also print where in the code it failed")
    parser.add_argument("--version", action="version", version=f"export-model {__version__}")
    add_checkpoint_options(parser)
    args = parser.parse_args(argv)
    if not args.output.endswith(".onnx"):
        parser.error(f"OUT.onnx is {args.output!r}; its name must end in .onnx")
    try:
        _export(args)
        return 0
    except PixelsnailError as error:
        if args.traceback:
            traceback.print_exception(error)
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

    say(f"reading {args.checkpoint}")
    if args.own_model is not None:
        with own_model(args) as source:
            _export_source(source, args, say)
        return
    checkpoint = load_checkpoint(args.checkpoint, options=checkpoint_options(args))
    refuse_idle_options(args, checkpoint, bundle_prefix(args.checkpoint) is not None)
    if not export_part(checkpoint, args, say):
        _export_source(recognised_model(checkpoint, args.round), args, say)


def _export_source(source: SourceModel, args: argparse.Namespace, say: Callable[[str], None]) -> None:
    def out(text: str) -> None:
        if not args.quiet:
            print(text)

    out("\n".join(describe(source)))
    result = export_model(
        source.module, args.output, distribution=source.distribution, shape=source.shape, conditions=source.conditions,
        family=source.family, config=source.config, checkpoint_sha256=source.sha256, notes=source.findings, say=say)
    for note in result.manifest.notes[len(source.findings) + 1:]:  # what was seen of the network as it ran
        out(f"  {note}")
    out(stages_table(result.manifest))
    out(checks_table(result.checks))
    out(files_table(result.files))
    say("done")


if __name__ == "__main__":
    sys.exit(main())
