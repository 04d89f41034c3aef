"""The command `score`: how likely images are under a model."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.commandline import ArgumentParser
from pixelsnail_infer.distributions import distribution_of
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.runtime.commands.denoising import (
    add_steps,
    input_files,
    is_denoiser,
    refuse_denoising,
    score_denoiser,
)
from pixelsnail_infer.runtime.commands.labels import read_conditions
from pixelsnail_infer.runtime.commands.options import (
    add_conditions,
    add_engine,
    add_model,
    array_files,
    output,
    whole,
)
from pixelsnail_infer.runtime.commands.pictures import WrongSizeError, read_picture
from pixelsnail_infer.runtime.commands.progress import ProgressBar
from pixelsnail_infer.runtime.denoising.denoiser import DENOISED_AT_ONCE
from pixelsnail_infer.runtime.drawing.loading import load
from pixelsnail_infer.runtime.drawing.scoring import SCORE_BATCH, log_likelihood
from pixelsnail_infer.runtime.files.arrays import load_array, npy
from pixelsnail_infer.runtime.files.saving import check_targets, write_all
from pixelsnail_infer.runtime.requests.pixels import check_images

COLUMNS = ("file", "index", "log_likelihood", "bits_per_dim")

_HELP = """\
How likely are these images under the model? Prints bits per dimension for each and their mean; lower is better.

  pixelsnail-infer score digits.onnx codes.npy --label 0-9 -o logprob.npy
  pixelsnail-infer score photos.onnx images.npy one.png two.png
  pixelsnail-infer score digits.onnx train.npy test.npy --label 0-9 --csv scores.csv
  pixelsnail-infer score photos.onnx *.png --csv - | sort -t, -k3,3g | head       the least likely first

A .npy holds codes, integers [n, H, W] or [H, W], or images, floating-point numbers [n, H, W, C] or [H, W, C] in [-1,
1]. A .png is one image, for models of images only. Labels are cycled over the images, as in `sample`. Of a denoiser it
is the variational bound: the least that is known of the likelihood.

--csv writes a line of names, then one row per image in the order given:
  file             as it was given
  index            of the image within its file, from 0
  log_likelihood   natural logarithm of the image's probability, in nats: the sum over its pixels
  bits_per_dim     -log_likelihood / (ln 2 · dimensions), of which an image has H W, or H W C
Then the images are not listed. With --csv - the rows go to the standard output, and the mean to the standard error."""


def add_score(commands: argparse._SubParsersAction[ArgumentParser]) -> None:
    """Add the command; `run` of what it parses returns an exit code."""
    parser = commands.add_parser("score", help="likelihoods", description=_HELP)
    add_model(parser)
    parser.add_argument("images", metavar="FILE", nargs="+", help=".npy of codes or images, or .png")
    add_conditions(parser)
    parser.add_argument("--seed", type=whole(0), default=0, help="denoisers: of the noise that is added (default 0)")
    add_steps(parser)
    add_engine(parser, f"images scored together (default {SCORE_BATCH}, of denoisers {DENOISED_AT_ONCE})")
    parser.add_argument("--csv", metavar="FILE.csv", type=output(".csv", dash=True), help="a row per image; - prints")
    parser.add_argument("-o", "--output", type=output(".npy"), help="natural-log probabilities, float32 [n, H, W]")
    parser.set_defaults(run=run_score)


def run_score(args: argparse.Namespace) -> int:
    """Score, print bits per dimension, and write what was asked for."""
    printed = args.csv == Path("-")
    files = [path for path in (None if printed else args.csv, args.output) if path is not None]
    check_targets(files, [args.model, *args.images, *array_files(args), *input_files(args)])
    if is_denoiser(args.model):
        counts, bits, dimensions = score_denoiser(args)
        nats, logprob = -bits * dimensions * np.log(2.0), None
    else:
        refuse_denoising(args)
        counts, bits, nats, logprob = _scored(args)
    rows = csv_rows(args.images, counts, nats, bits)
    results = [] if args.csv is None or printed else [(args.csv, rows)]
    write_all([*results, *([] if logprob is None else [(args.output, npy(logprob))])], len(files))
    if printed:
        sys.stdout.flush()
        sys.stdout.buffer.write(rows)  # data: the bytes that a file would hold, whatever the terminal can show
    elif args.csv is None:
        for k, value in enumerate(bits):
            print(f"image {k}: {value:.4f} bits per dimension")
    summary = sys.stderr if printed else sys.stdout
    mean = f"{bits.mean():.4f} bits per dimension, log-likelihood {nats.mean():.4f} nats"
    print(f"mean of {len(bits)}: {mean}", file=summary)
    for path in files:
        print(f"wrote {one_line(path)}", file=summary)
    return 0


def _scored(args: argparse.Namespace
            ) -> tuple[list[int], NDArray[np.float64], NDArray[np.float64], NDArray[np.float32] | None]:  # fmt: skip
    """Of a prior: how many images each file holds, their bits per dimension, their log-likelihoods, and where they are
    to be written, those of every pixel."""
    with load(args.model, device=args.device, backend=args.backend, threads=args.threads) as sampler:
        manifest = sampler.manifest
        sets = [_read_images(manifest, path) for path in args.images]
        images = np.concatenate(sets)
        conditions = read_conditions(manifest.conditions, args.label, args.condition, len(images))
        with ProgressBar(len(images) * manifest.height * manifest.width) as progress:
            logprob = sampler.score(images, max_batch=args.max_batch, progress=progress, **conditions)
        bits = distribution_of(manifest).bits_per_dim(logprob)
    return [len(held) for held in sets], bits, log_likelihood(logprob), None if args.output is None else logprob


def csv_rows(
    files: Sequence[str], counts: Sequence[int], nats: NDArray[np.float64], bits: NDArray[np.float64]
) -> bytes:
    """What `--csv` writes: a line of `COLUMNS`, then one per image of `files`, which hold `counts` images each. Numbers
    are written in full: reading them gives the same float64. It is UTF-8, but for bytes of a path that are none."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    places = [(file, index) for file, count in zip(files, counts, strict=True) for index in range(count)]
    writer.writerows((*place, repr(float(a)), repr(float(b))) for place, a, b in zip(places, nats, bits, strict=True))
    return text.getvalue().encode("utf-8", "surrogateescape")


def _read_images(manifest: Manifest, path: str) -> NDArray[Any]:
    """Checked images [n, …] of one file."""
    channels = manifest.pixel.channels
    if not path.lower().endswith(".png"):
        return check_images(manifest, load_array(path, "codes" if channels is None else "images"))
    if channels is None:
        raise RequestError(f"{path} is a picture, but this model's pixels are codes; give a .npy file of codes.")
    try:
        return check_images(manifest, read_picture(path, channels, manifest.shape), path)
    except WrongSizeError as error:
        raise RequestError(f"{error}; this model takes no other canvas.") from error
