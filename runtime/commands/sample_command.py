"""The command `sample`: images of one model."""

from __future__ import annotations

import argparse
import time

from pixelsnail_infer.commandline import ArgumentParser
from pixelsnail_infer.runtime.commands.denoising import (
    add_denoising,
    input_files,
    is_denoiser,
    refuse_denoising,
    sample_denoiser,
)
from pixelsnail_infer.runtime.commands.drawn import (
    DEFAULT_N,
    Drawn,
    check_grid_options,
    check_picture,
    how_drawn,
    images_asked,
    print_written,
    write_drawn,
)
from pixelsnail_infer.runtime.commands.labels import read_conditions
from pixelsnail_infer.runtime.commands.options import (
    add_conditions,
    add_engine,
    add_grid,
    add_model,
    add_output,
    add_schedule,
    array_files,
    whole,
)
from pixelsnail_infer.runtime.commands.progress import ProgressBar
from pixelsnail_infer.runtime.denoising.denoiser import DENOISED_AT_ONCE
from pixelsnail_infer.runtime.drawing.loading import load
from pixelsnail_infer.runtime.files.arrays import load_array
from pixelsnail_infer.runtime.files.images import require_pillow
from pixelsnail_infer.runtime.files.saving import check_targets
from pixelsnail_infer.runtime.requests.memory import check_images_fit, request_bytes
from pixelsnail_infer.runtime.requests.request import DEFAULT_MAX_BATCH

_HELP = """\
Draw images from an exported model.

  pixelsnail-infer sample digits.onnx --n 40 --label 0-9 --seed 0 -o digits.png                  one grid of all
  pixelsnail-infer sample digits.onnx --n 40 --label 0-9 --scale 8 -o 'digit_{label}_{index:04d}.png'  a file for each
  pixelsnail-infer sample digits.onnx --n 40 --label 0-9 -o out/                                 out/0000.png, …
  pixelsnail-infer sample unet.onnx --n 16 --steps ddim50 -o grid.png                            with a denoiser

The same seed gives the same images, whatever --max-batch and --threads are. A .png shows codes as grey levels, and
images as they are; a .npy holds the codes themselves, int64 [n, H, W], or the images, float32 [n, H, W, C] in [-1, 1],
which `score` reads. {index}, {seed} and {label} in the name of -o make a file for every image; {index:04d} has four
digits, and {{ and }} are braces. The text chunks of a .png say how it was drawn. The other files of the export
(digits.row.onnx, …) must lie beside the model."""


def add_sample(commands: argparse._SubParsersAction[ArgumentParser]) -> None:
    """Add the command; `run` of what it parses returns an exit code."""
    parser = commands.add_parser("sample", help="draw images", description=_HELP)
    add_model(parser)
    parser.add_argument("--n", type=whole(1), help=f"images (default: one per label, or {DEFAULT_N})")
    add_conditions(parser)
    parser.add_argument("--seed", type=whole(0), default=0, help="integer from 0 to 2^64 - 1 (default 0)")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 takes the most probable (default 1)")
    parser.add_argument("--top-k", type=whole(1), help="draw from the k most probable codes only")
    parser.add_argument("--top-p", type=float, help="draw from the most probable codes that hold this mass, 0 < p ≤ 1")
    parser.add_argument("--known", metavar="FILE.npy", help="pixels to complete, [H, W] or [n, H, W], or float [… C]")
    parser.add_argument("--known-mask", metavar="FILE.npy", help="bool [H, W] or [n, H, W]: where --known counts")
    add_denoising(parser)
    add_grid(parser)
    add_engine(parser, f"images drawn together (default {DEFAULT_MAX_BATCH}, of denoisers {DENOISED_AT_ONCE})")
    add_schedule(parser)
    add_output(parser, required=True)
    parser.set_defaults(run=run_sample, fail=parser.error)


def run_sample(args: argparse.Namespace) -> int:
    """Draw, write the files, and print how fast it went."""
    n, output = images_asked(args), args.output
    check_grid_options(args)
    paths = output.paths(n, args.seed, args.label)
    inputs = [args.model, args.known, args.known_mask, *array_files(args), *input_files(args)]
    check_targets(paths, inputs, make_folders=output.folder)
    if output.picture:
        require_pillow()
    if is_denoiser(args.model):
        return sample_denoiser(args, n, paths)
    refuse_denoising(args)
    known = None if args.known is None else load_array(args.known, "--known")
    mask = None if args.known_mask is None else load_array(args.known_mask, "--known-mask")
    with load(args.model, device=args.device, backend=args.backend, threads=args.threads,
              schedule=args.schedule) as sampler:  # fmt: skip
        manifest = sampler.manifest
        check_images_fit(n, request_bytes(manifest))
        check_picture(args, n, manifest.shape)
        conditions = read_conditions(manifest.conditions, args.label, args.condition, n)
        started = time.perf_counter()
        with ProgressBar(n * manifest.height * manifest.width) as progress:
            pixels = sampler.sample(
                n, seed=args.seed, temperature=args.temperature, top_k=args.top_k, top_p=args.top_p, known=known,
                known_mask=mask, progress=progress, max_batch=args.max_batch, **conditions,
            )  # fmt: skip
        seconds = time.perf_counter() - started
    text = how_drawn(args, [args.model], [manifest])
    write_drawn(args, paths, Drawn(pixels, pixels, manifest.pixel.levels, text))
    height, width = pixels.shape[1:3]
    what = f"{n} image{'s' if n > 1 else ''} of {height}×{width}"
    print(f"{what} in {seconds:.2f} s: {n * height * width / seconds:.0f} pixels per second")
    print_written(paths)
    return 0
