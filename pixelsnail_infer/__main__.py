"""The command `pixelsnail-infer`: sample, generate, score, bulk, serve, info, bench, build, verify, doctor.

Exit codes: 0 done, 1 bad input or result, 2 usage, 130 interrupted."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from pixelsnail_infer import __version__
from pixelsnail_infer.commandline import ArgumentParser, run_command
from pixelsnail_infer.errors import PixelsnailError

_DESCRIPTION = """\
Sample, score and inspect models that `export-model` wrote.

  export-model ckpt.pt out.onnx                            turn a checkpoint into graphs (needs PyTorch)
  pixelsnail-infer sample out.onnx --n 16 -o grid.png      draw images
  pixelsnail-infer generate top.onnx bottom.onnx decoder.onnx -o grid.png
                                                           draw images through several models
  pixelsnail-infer score out.onnx codes.npy                bits per dimension
  pixelsnail-infer serve out.onnx                          answer requests over HTTP, with a page to try it
  pixelsnail-infer bulk out.onnx --n 1000000 -o out/       very many images, into files
  pixelsnail-infer info out.onnx                           what is in it
  pixelsnail-infer build out.onnx                          TensorRT engines, for --backend tensorrt
  pixelsnail-infer bench out.onnx                          how fast it runs here, and how fast it could
  pixelsnail-infer verify out.onnx ckpt.pt                 compare with PyTorch (needs PyTorch)
  pixelsnail-infer doctor                                  which engines and GPUs are here, and whether they work

Exit codes: 0 done, 1 the input or the result is bad (one line says why), 2 wrong usage, 130 interrupted."""
_EXPORT_SIDE = ("torch", "onnx", "onnxscript", "networkx")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Errors are one line on stderr."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verify = arguments[:1] == ["verify"]
    return run_command("pixelsnail-infer", lambda: _verify(arguments[1:]) if verify else _run(arguments))


def _run(arguments: list[str]) -> int:
    from pixelsnail_infer.runtime.commands.table import add_commands

    parser = ArgumentParser(prog="pixelsnail-infer", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"pixelsnail-infer {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_commands(commands)
    commands.add_parser("verify", help="compare an export with its checkpoint (needs PyTorch)", add_help=False)
    args = parser.parse_args(arguments)
    code: int = args.run(args)
    return code


def _verify(arguments: list[str]) -> int:
    """`verify` lives on the exporter's side and is imported only when it is asked for."""
    try:
        command = importlib.import_module("pixelsnail_infer.export.verify_command")
        parser = ArgumentParser(prog="pixelsnail-infer verify", description=command.__doc__)
        command.add_arguments(parser)
        code: int = command.run(parser.parse_args(arguments))
        return code
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _EXPORT_SIDE:
            raise
        raise PixelsnailError(
            f"verify needs {error.name}, which is not installed; run: pip install 'pixelsnail-infer[export,cpu]'"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
