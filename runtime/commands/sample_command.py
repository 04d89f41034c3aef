"""The command `sample`: images of one model."""

from __future__ import annotations

import argparse
import time
from typing import Any

from numpy.typing import NDArray

from pixelsnail_infer.runtime.commands.images import grid_columns, png_grid, require_pillow
from pixelsnail_infer.runtime.commands.labels import read_conditions
from pixelsnail_infer.runtime.commands.options import (
    RAW,
    add_conditions,
    add_engine,
    add_grid,
    add_model,
    output,
    whole,
)
from pixelsnail_infer.runtime.commands.progress import ProgressBar
from pixelsnail_infer.runtime.drawing.loading import load
from pixelsnail_infer.runtime.drawing.sampler import Sampler
from pixelsnail_infer.runtime.files.arrays import load_array, npy
from pixelsnail_infer.runtime.files.saving import check_writable, write_whole
from pixelsnail_infer.runtime.requests.request import DEFAULT_MAX_BATCH

DEFAULT_N = 16

_HELP = """\
Draw images from an exported model.

  pixelsnail-infer sample digits.onnx --n 40 --label 0-9 --seed 0 -o digits.png

The same seed gives the same images, whatever --max-batch and --threads are. A .png shows codes as grey levels, and
images as they are; a .npy holds the codes themselves, int64 [n, H, W], or the images, float32 [n, H, W, C] in [-1, 1],
which `score` reads. The other files of the export (digits.row.onnx, …)
must lie beside the model."""


def add_sample(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command; `run` of what it parses returns an exit code."""
    parser = commands.add_parser("sample", help="draw images", description=_HELP, formatter_class=RAW)
    add_model(parser)
    parser.add_argument("--n", type=whole(1), help=f"images (default: one per label, or {DEFAULT_N})")
    add_conditions(parser)
    parser.add_argument("--seed", type=whole(0), default=0, help="integer from 0 to 2^64 - 1 (default 0)")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 takes the most probable (default 1)")
    parser.add_argument("--top-k", type=whole(1), help="draw from the k most probable codes only")
    parser.add_argument("--top-p", type=float, help="draw from the most probable codes that hold this mass, 0 < p ≤ 1")
    parser.add_argument("--known", metavar="FILE.npy", help="pixels to complete, [H, W] or [n, H, W], or float [… C]")
    parser.add_argument("--known-mask", metavar="FILE.npy", help="bool [H, W] or [n, H, W]: where --known counts")
    add_grid(parser)
    add_engine(parser, f"images drawn together (default {DEFAULT_MAX_BATCH})")
    parser.add_argument("-o", "--output", required=True, type=output(".png", ".npy"), help="a .png or .npy file")
    parser.set_defaults(run=run_sample)


def run_sample(args: argparse.Namespace) -> int:
    """Draw, write the file, and print how fast it went."""
    check_writable(args.output)
    if args.output.suffix == ".png":
        require_pillow()
    known = None if args.known is None else load_array(args.known, "--known")
    mask = None if args.known_mask is None else load_array(args.known_mask, "--known-mask")
    n = args.n or len(args.label or ()) or DEFAULT_N
    with load(args.model, device=args.device, threads=args.threads) as sampler:
        conditions = read_conditions(sampler.manifest.conditions, args.label, args.condition, n)
        started = time.perf_counter()
        with ProgressBar(n * sampler.manifest.height * sampler.manifest.width) as progress:
            pixels = sampler.sample(
                n, seed=args.seed, temperature=args.temperature, top_k=args.top_k, top_p=args.top_p, known=known,
                known_mask=mask, progress=progress, max_batch=args.max_batch, **conditions,
            )  # fmt: skip
        seconds = time.perf_counter() - started
        write_whole(args.output, npy(pixels) if args.output.suffix == ".npy" else _png(sampler, pixels, args))
    height, width = pixels.shape[1:3]
    what = f"{n} image{'s' if n > 1 else ''} of {height}×{width}"
    print(f"{what} in {seconds:.2f} s: {n * height * width / seconds:.0f} pixels per second")
    print(f"wrote {args.output}")
    return 0


def captions_of(labels: list[int] | None, n: int) -> list[str] | None:
    """What stands over each of n tiles: its label, where there are labels."""
    return [str(labels[k % len(labels)]) for k in range(n)] if labels else None


def _png(sampler: Sampler, pixels: NDArray[Any], args: argparse.Namespace) -> bytes:
    columns = args.columns or grid_columns(len(pixels), args.label)
    captions = captions_of(args.label, len(pixels))
    return png_grid(pixels, sampler.manifest.pixel.levels, captions=captions, columns=columns, scale=args.scale)
