"""The command `bench`: how fast a model runs on this machine, and how far that is from the floor."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from pixelsnail_infer.commandline import ArgumentParser, integer
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.runtime.backends.host import check_threads
from pixelsnail_infer.runtime.bench.bench import bench
from pixelsnail_infer.runtime.bench.plot import plot, require_matplotlib
from pixelsnail_infer.runtime.bench.report import report
from pixelsnail_infer.runtime.commands.options import add_choice, add_model, checked, output, whole
from pixelsnail_infer.runtime.files.saving import check_targets, write_all

_HELP = """\
How fast does this model run on this machine, and how fast could it be?

  pixelsnail-infer bench top.onnx
  pixelsnail-infer bench top.onnx --batch 1,16 --seconds 30 --threads 2 --json top.json --plot top.png

At every batch size the sampling loop draws rows, evenly spread over the canvas, for about --seconds; where it does not
get through all of them, the image is extrapolated, and the report says from how many. It shows
  s per image     of a whole batch, divided by the batch; images/s is its inverse
  first row       from the call to the first finished row, in a sampler that is warm
  p50, p95, p99   of a row and of a step in milliseconds: the graph alone, and in the loop, which adds the noise, the
                  buffers and Python; `added` is the median of that
  floor           the matrix products alone, through the same engine at the same shapes, or the bytes of weights, keys
                  and values that they read over the memory's rate, whichever is longer; measured in turns with the rows
  states, buffers what a batch takes, exactly; peak: of a fresh process that loads the model and draws a row
  others' cores   how many cores other processes kept busy meanwhile. Figures want a quiet machine

Exports with wave graphs are timed in waves too; everything else is of rows and steps.

Conditions are zeros: their values do not matter for the time. --json holds all of it, and the shape of every product.
It is for the CPU: on a GPU nothing waits within a row; `benchmarks/gpu_check` in the repository measures there. Nothing
is written before everything is measured."""


def add_bench(commands: argparse._SubParsersAction[ArgumentParser]) -> None:
    """Add the command; `run` of what it parses returns an exit code."""
    parser = commands.add_parser("bench", help="how fast a model runs here", description=_HELP)
    add_model(parser)
    parser.add_argument(
        "--batch", type=checked(_batches), default=[1, 4, 16, 64], metavar="N,N,…", help="sizes (default 1,4,16,64)"
    )
    parser.add_argument("--seconds", type=checked(_seconds), default=10.0, help="for each batch size (default 10)")
    parser.add_argument("--threads", type=whole(1), help="threads of the engine (default: one per core)")
    add_choice(parser)
    parser.add_argument("--json", metavar="FILE.json", type=output(".json"), help="all figures, and the machine")
    parser.add_argument("--plot", metavar="FILE.png", type=output(".png"), help="a picture; needs matplotlib")
    parser.set_defaults(run=run_bench)


def run_bench(args: argparse.Namespace) -> int:
    """Measure, print the report, and write what was asked for."""
    files = [path for path in (args.json, args.plot) if path is not None]
    check_targets(files, [args.model])
    if args.plot is not None:
        require_matplotlib()
    check_threads(args.threads)
    found = bench(args.model, args.batch, seconds=args.seconds, device=args.device, backend=args.backend,
                  threads=args.threads, say=_say)  # fmt: skip
    print(report(found))
    results: list[tuple[Path, bytes]] = []
    if args.json is not None:
        results.append((args.json, (json.dumps(found, indent=1) + "\n").encode()))
    if args.plot is not None:
        results.append((args.plot, plot(found)))
    write_all(results, len(results))
    for path in files:
        print(f"wrote {one_line(path)}")
    return 0


def _say(line: str) -> None:
    if sys.stderr.isatty():
        print(line, file=sys.stderr)


def _batches(text: str) -> list[int]:
    sizes = [integer(item, low=1) for item in text.split(",")]
    if len(set(sizes)) < len(sizes):
        raise RequestError("a batch size is there twice")
    return sizes


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e6:
        raise ValueError(f"{text[:80]!r} is no number of seconds above 0")
    return seconds
