"""The command `export-model`."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence

from pixelsnail_infer import __version__
from pixelsnail_infer.commandline import ArgumentParser, run_command
from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.export.from_checkpoint import check_output, export_checkpoint
from pixelsnail_infer.export.report import report
from pixelsnail_infer.export.source.arguments import add_options, given_options
from pixelsnail_infer.export.source.options import ExportOptions

__all__ = ["main"]

_HELP = """\
Turn a trained PixelSNAIL or PixelCNN checkpoint into graphs that sample fast.

  export-model top.pt top.onnx
  export-model digits.pt digits.onnx --n-head 4
  export-model params_cifar.ckpt cifar.onnx --arch h12_noup_smallkey
  export-model top.pt top_graphs.pt --format torchscript
  export-model top.pt top_graphs.onnx --format both
  export-model top.pt top_half.onnx --precision float16 --codes real_codes.npy
  export-model top.pt top_int8.onnx --precision int8 --calibrate real_codes.npy
  export-model bottom.pt bottom.onnx --schedule auto
  export-model vqvae.pt decoder.onnx
  export-model vqvae.pt encoder.onnx --part encoder
  export-model vqvae.pt decoder.pt --format torchscript
  export-model my.pt my.onnx --model my_net.py:Net --model-args '{"width": 64}' --shape 32x32 --levels 512

Writes OUT.onnx (one pixel), OUT.row.onnx (once per row), OUT.score.onnx (likelihoods), OUT.filtered.onnx (one pixel,
with top-k and top-p; codes only) and, for models with conditions, OUT.prologue.onnx (once per image). With --schedule
auto a network without attention also gets OUT.wave.onnx (one pixel of many rows at once), and a large one
OUT.ahead.onnx (before some waves); the runtime takes what is quicker. Of a VQ-VAE or a VQ first stage it writes one
file, the decoder or the encoder. With --format torchscript it writes OUT.pt, one archive of all graphs, which
torch.jit.load reads in Python and in C++. With --format both it writes OUT.onnx with its siblings and OUT.pt, all or
none; OUT may end in either, and the other is written over only where an export wrote it. The model is recognised from
the checkpoint's tensors, the graphs are proven equal to PyTorch, and nothing is written unless all proofs hold. The
checkpoint is never written over.

The checkpoint is loaded without running anything that it says. Then, without PyTorch:

  pixelsnail-infer sample top.onnx --n 16 --seed 0 -o grid.png

Exit codes: 0 done, 1 the input or the result is bad (one line says why), 2 wrong usage, 130 interrupted."""


def main(argv: Sequence[str] | None = None, prog: str = "export-model") -> int:
    """Run the command; returns the exit code. Errors are one line on stderr."""
    return run_command(prog, lambda: _run(argv, prog))


def _run(argv: Sequence[str] | None, prog: str) -> int:
    parser = ArgumentParser(prog=prog, description=_HELP)
    parser.add_argument("checkpoint", metavar="CKPT", help="the trained model (.pt)")
    parser.add_argument("output", metavar="OUT.onnx",
                        help="the step graph; the other files are named after it (OUT.pt with --format torchscript, "
                             "OUT.onnx or OUT.pt with --format both)")
    parser.add_argument("-q", "--quiet", action="store_true", help="print errors only")
    parser.add_argument("--traceback", action="store_true", help="on failure, also print where in the code it failed")
    parser.add_argument("--version", action="version", version=f"{prog} {__version__}")
    add_options(parser, ExportOptions)
    args = parser.parse_args(argv)
    try:
        check_output(args.checkpoint, args.output, args.format)
    except PixelsnailError as error:
        parser.error(str(error))
    try:
        _export(args)
        return 0
    except PixelsnailError as error:
        if args.traceback:
            traceback.print_exception(error)
        raise


def _export(args: argparse.Namespace) -> None:
    started = time.monotonic()

    def say(line: str) -> None:
        if not args.quiet:
            print(f"[{time.monotonic() - started:6.1f} s] {line}", file=sys.stderr, flush=True)

    def out(text: str) -> None:
        if not args.quiet:
            print(text)

    result = export_checkpoint(args.checkpoint, args.output, say=say, found=out, **given_options(args, ExportOptions))
    out(report(result))
    say("done")


if __name__ == "__main__":
    sys.exit(main())
