"""The commands `sample`, `score` and `info`: each a parser and a function that returns an exit code."""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.distributions import distribution_of
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime.files import check_writable, write_whole
from pixelsnail_infer.runtime.images import grid_columns, png_grid, read_picture, require_pillow
from pixelsnail_infer.runtime.labels import load_array, parse_condition, parse_labels, read_conditions
from pixelsnail_infer.runtime.loading import load
from pixelsnail_infer.runtime.pixels import check_images
from pixelsnail_infer.runtime.progress import ProgressBar
from pixelsnail_infer.runtime.report import describe_files
from pixelsnail_infer.runtime.request import DEFAULT_MAX_BATCH
from pixelsnail_infer.runtime.sampler import Sampler

T = TypeVar("T")
_RAW = argparse.RawDescriptionHelpFormatter
_DEFAULT_N = 16

_SAMPLE_HELP = """\
Draw images from an exported model.

  pixelsnail-infer sample digits.onnx --n 40 --label 0-9 --seed 0 -o digits.png

The same seed gives the same images, whatever --max-batch and --threads are. A .png shows codes as grey levels, and
images as they are; a .npy holds the codes themselves, int64 [n, H, W], or the images, float32 [n, H, W, C] in [-1, 1],
which `score` reads. The other files of the export (digits.row.onnx, …)
must lie beside the model."""

_SCORE_HELP = """\
How likely are these images under the model? Prints bits per dimension for each and their mean; lower is better.

  pixelsnail-infer score digits.onnx codes.npy --label 0-9 -o logprob.npy
  pixelsnail-infer score photos.onnx images.npy one.png two.png

A .npy holds codes, integers [n, H, W] or [H, W], or images, floating-point numbers [n, H, W, C] or [H, W, C] in [-1,
1]. A .png is one image, for models of images only. Labels are cycled over the images, as in `sample`."""

_INFO_HELP = """\
What is in an export: model, shapes, conditions, states and their memory, files and whether they are intact.

  pixelsnail-infer info digits.onnx
  pixelsnail-infer info digits.onnx --json > manifest.json"""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the three commands; each sets `run`, a function of the parsed arguments that returns an exit code."""
    sample = commands.add_parser("sample", help="draw images", description=_SAMPLE_HELP, formatter_class=_RAW)
    _model(sample)
    sample.add_argument("--n", type=_whole(1), help=f"images (default: one per label, or {_DEFAULT_N})")
    _conditions(sample)
    sample.add_argument("--seed", type=_whole(0), default=0, help="integer from 0 to 2^64 - 1 (default 0)")
    sample.add_argument("--temperature", type=float, default=1.0, help="0 takes the most probable (default 1)")
    sample.add_argument("--top-k", type=_whole(1), help="draw from the k most probable codes only")
    sample.add_argument("--top-p", type=float, help="draw from the most probable codes that hold this mass, 0 < p ≤ 1")
    sample.add_argument("--known", metavar="FILE.npy", help="pixels to complete, [H, W] or [n, H, W], or float [… C]")
    sample.add_argument("--known-mask", metavar="FILE.npy", help="bool [H, W] or [n, H, W]: where --known counts")
    sample.add_argument("--columns", type=_whole(1), help="columns of the picture (default: one per label)")
    sample.add_argument("--scale", type=_whole(1), help="enlarge every pixel this many times (default: tiles of ~64)")
    _engine(sample, f"images drawn together (default {DEFAULT_MAX_BATCH})")
    sample.add_argument("-o", "--output", required=True, type=_output(".png", ".npy"), help="a .png or .npy file")
    sample.set_defaults(run=run_sample)

    score = commands.add_parser("score", help="likelihoods", description=_SCORE_HELP, formatter_class=_RAW)
    _model(score)
    score.add_argument("images", metavar="FILE", nargs="+", help=".npy of codes or images, or .png")
    _conditions(score)
    _engine(score, "images scored together (default 4)")
    score.add_argument("-o", "--output", type=_output(".npy"), help="natural-log probabilities, float32 [n, H, W]")
    score.set_defaults(run=run_score)

    info = commands.add_parser("info", help="what is in an export", description=_INFO_HELP, formatter_class=_RAW)
    _model(info)
    info.add_argument("--json", action="store_true", help="print the manifest as JSON and nothing else")
    info.set_defaults(run=run_info)


def run_sample(args: argparse.Namespace) -> int:
    """Draw, write the file, and print how fast it went."""
    check_writable(args.output)
    if args.output.suffix == ".png":
        require_pillow()
    known = None if args.known is None else load_array(args.known, "--known")
    mask = None if args.known_mask is None else load_array(args.known_mask, "--known-mask")
    n = args.n or len(args.label or ()) or _DEFAULT_N
    with load(args.model, device=args.device, threads=args.threads) as sampler:
        conditions = read_conditions(sampler.manifest, args.label, args.condition, n)
        started = time.perf_counter()
        with ProgressBar(n * sampler.manifest.height * sampler.manifest.width) as progress:
            pixels = sampler.sample(
                n, seed=args.seed, temperature=args.temperature, top_k=args.top_k, top_p=args.top_p, known=known,
                known_mask=mask, progress=progress, max_batch=args.max_batch, **conditions,
            )  # fmt: skip
        seconds = time.perf_counter() - started
        write_whole(args.output, _npy(pixels) if args.output.suffix == ".npy" else _png(sampler, pixels, args))
    height, width = pixels.shape[1:3]
    what = f"{n} image{'s' if n > 1 else ''} of {height}×{width}"
    print(f"{what} in {seconds:.2f} s: {n * height * width / seconds:.0f} pixels per second")
    print(f"wrote {args.output}")
    return 0


def run_score(args: argparse.Namespace) -> int:
    """Score, print bits per dimension, and write the log-probabilities if asked to."""
    if args.output is not None:
        check_writable(args.output)
    with load(args.model, device=args.device, threads=args.threads) as sampler:
        images = np.concatenate([_read_images(sampler.manifest, path) for path in args.images])
        conditions = read_conditions(sampler.manifest, args.label, args.condition, len(images))
        logprob = sampler.score(images, max_batch=args.max_batch, **conditions)
        bits = distribution_of(sampler.manifest).bits_per_dim(logprob)
    for k, value in enumerate(bits):
        print(f"image {k}: {value:.4f} bits per dimension")
    print(f"mean of {len(bits)}: {bits.mean():.4f} bits per dimension")
    if args.output is not None:
        write_whole(args.output, _npy(logprob))
        print(f"wrote {args.output}")
    return 0


def run_info(args: argparse.Namespace) -> int:
    """Print the description of an export; 1 when one of its files is missing or altered."""
    text, intact = describe_files(args.model, json=args.json)
    print(text)
    return 0 if intact else 1


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="OUT.onnx", help="the step file of an export")


def _conditions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--label", type=_checked(parse_labels), help="class labels: 3, 0-9 or 0,1,5-7; cycled over the images"
    )
    parser.add_argument(
        "--condition", type=_checked(parse_condition), action="append", default=[], metavar="NAME=VALUE",
        help="any condition: NAME=FILE.npy, or a list of classes or numbers; may be repeated",
    )  # fmt: skip


def _engine(parser: argparse.ArgumentParser, batch_help: str) -> None:
    parser.add_argument("--max-batch", type=_whole(1), help=batch_help)
    parser.add_argument("--threads", type=_whole(1), help="threads of the engine (default: every core)")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="never another than this (default cpu)"
    )


def _read_images(manifest: Manifest, path: str) -> NDArray[Any]:
    """Checked images [n, …] of one file."""
    channels = manifest.pixel.channels
    if not path.lower().endswith(".png"):
        return check_images(manifest, load_array(path, "codes" if channels is None else "images"))
    if channels is None:
        raise RequestError(f"{path} is a picture, but this model's pixels are codes; give a .npy file of codes.")
    return check_images(manifest, read_picture(path, channels), path)


def _png(sampler: Sampler, pixels: NDArray[Any], args: argparse.Namespace) -> bytes:
    captions = [str(args.label[k % len(args.label)]) for k in range(len(pixels))] if args.label else None
    columns = args.columns or grid_columns(len(pixels), args.label)
    return png_grid(pixels, sampler.manifest.pixel.levels, captions=captions, columns=columns, scale=args.scale)


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _checked(parse: Callable[[str], T]) -> Callable[[str], T]:
    """An argparse type whose error message is the parser's own."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except (ValueError, RequestError) as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


def _whole(low: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            raise ValueError(f"{text!r} is not an integer of at least {low}")
        return int(text)

    return _checked(parse)


def _output(*suffixes: str) -> Callable[[str], Path]:
    def parse(text: str) -> Path:
        if (path := Path(text)).suffix not in suffixes:
            raise ValueError(f"{text!r} should end in {' or '.join(suffixes)}")
        return path

    return _checked(parse)
