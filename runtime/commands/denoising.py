"""What `sample` and `score` do with a denoiser."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.denoiser import DENOISER, LOW_RES, DenoiserManifest
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.manifest import ConditionSpec
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.runtime.commands.drawn import Drawn, check_picture, how_drawn, print_written, write_drawn
from pixelsnail_infer.runtime.commands.labels import read_conditions
from pixelsnail_infer.runtime.commands.pictures import WrongSizeError, read_picture
from pixelsnail_infer.runtime.commands.progress import ProgressBar
from pixelsnail_infer.runtime.denoising.inputs import SAMPLERS
from pixelsnail_infer.runtime.denoising.loading import load_denoiser
from pixelsnail_infer.runtime.files.archive_files import kind_of_file
from pixelsnail_infer.runtime.files.arrays import load_array
from pixelsnail_infer.runtime.files.model_files import LOADERS

__all__ = ["OF_DENOISERS", "OF_PRIORS", "add_denoising", "add_steps", "input_files", "is_denoiser",
           "read_with_pictures", "refuse_denoising", "refuse_given", "sample_denoiser", "score_denoiser"]  # fmt: skip

OF_PRIORS = {"temperature": 1.0, "top_k": None, "top_p": None, "known": None, "known_mask": None,
             "schedule": "auto"}
OF_DENOISERS = {"steps": None, "eta": None, "sampler": None, "no_clip": False, "low_res": None}


def add_steps(parser: argparse.ArgumentParser, each: bool = False) -> argparse._ArgumentGroup:
    """`--steps`, `--no-clip` and `--low-res`, for denoisers only. With `each`, `--steps` may be given for each."""
    group = parser.add_argument_group("denoisers")
    group.add_argument("--steps", metavar="STEPS", action="append" if each else "store", help="which steps of the "
                       "diffusion: 250, ddim50 (of one stride) or 10,10,20 (of equal sections); default all"
                       + ("; given once, or once for each denoiser, in order" if each else ""))  # fmt: skip
    group.add_argument("--no-clip", action="store_true", help="do not cut what each step predicts to [-1, 1]")
    group.add_argument("--low-res", metavar="FILE", help="the small pictures of a super-resolution model: a picture, "
                       "or a .npy, float [n, h, w, C] in [-1, 1]")
    return group


def add_denoising(parser: argparse.ArgumentParser, each: bool = False) -> None:
    """The options of `sample`, or with `each` of `generate`, that are for denoisers only."""
    group = add_steps(parser, each)
    group.add_argument("--sampler", choices=SAMPLERS, help="default: ddim with --eta or ddimN steps, else ddpm")
    group.add_argument("--eta", type=float, help="DDIM: how much noise it adds, 0 to 1 (default 0)")


def is_denoiser(path: str) -> bool:
    """Whether the file is an exported denoiser. Raises `GraphFileError` and `ManifestError`."""
    return kind_of_file(path, tuple(LOADERS)) == DENOISER


def input_files(args: argparse.Namespace) -> list[str]:
    """The files that the options name."""
    return [] if args.low_res is None else [args.low_res]


def refuse_denoising(args: argparse.Namespace) -> None:
    """Raise `RequestError` for an option of denoisers that was given for a model that is none."""
    refuse_given(args, OF_DENOISERS, f"for denoisers, and {args.model} is none")


def sample_denoiser(args: argparse.Namespace, n: int, paths: list[Path]) -> int:
    """Draw with a denoiser, write the files, and print how fast it went."""
    refuse_given(args, OF_PRIORS, f"for models that draw pixel by pixel, and {args.model} is a denoiser")
    with load_denoiser(args.model, device=args.device, backend=args.backend, threads=args.threads) as denoiser:
        manifest = denoiser.manifest
        steps = len(denoiser.schedule(args.steps))
        check_picture(args, n, manifest.image.shape)
        conditions = read_with_pictures(args, manifest.conditions, n)
        started = time.perf_counter()
        with ProgressBar(n * steps, unit="steps") as progress:
            images = denoiser.sample(n, seed=args.seed, steps=args.steps, eta=args.eta, sampler=args.sampler,
                                     clip=not args.no_clip, progress=progress, max_batch=args.max_batch,
                                     **conditions)  # fmt: skip
        seconds = time.perf_counter() - started
    named = {name: getattr(args, name) for name in ("steps", "eta", "sampler")}
    settings = {name: str(value) for name, value in named.items() if value is not None}
    text = {name: held for name, held in how_drawn(args, [args.model], [manifest]).items() if name not in OF_PRIORS}
    write_drawn(args, paths, Drawn(images, images, None, text | settings))
    height, width = images.shape[1:3]
    what = f"{n} image{'s' if n > 1 else ''} of {height}×{width}"
    print(f"{what} in {steps} steps, {seconds:.2f} s: {n * steps / seconds:.1f} image steps per second")
    print_written(paths)
    return 0


def score_denoiser(args: argparse.Namespace) -> tuple[list[int], NDArray[np.float64], int]:
    """How many images each file holds, the bits per dimension of all, and how many dimensions an image has."""
    if args.output is not None:
        raise RequestError("--output is of single pixels, of which a denoiser has no probability; leave it out.")
    with load_denoiser(args.model, device=args.device, backend=args.backend, threads=args.threads) as denoiser:
        manifest = denoiser.manifest
        sets = [_images(manifest, path) for path in args.images]
        images = np.concatenate(sets)
        conditions = read_with_pictures(args, manifest.conditions, len(images))
        with ProgressBar(len(images) * len(denoiser.schedule(args.steps)), unit="steps") as progress:
            bits = denoiser.bits_per_dim(images, seed=args.seed, steps=args.steps, clip=not args.no_clip,
                                         progress=progress, max_batch=args.max_batch, **conditions)  # fmt: skip
    return [len(held) for held in sets], bits, int(np.prod(images.shape[1:]))


def read_with_pictures(args: argparse.Namespace, specs: Sequence[ConditionSpec], n: int) -> dict[str, Any]:
    """The values of all conditions that the caller gives, from `--label`, `--condition` and `--low-res`."""
    small = next((spec for spec in specs if spec.name == LOW_RES and spec.kind == "map"), None)
    if small is None and args.low_res is not None:
        raise RequestError("--low-res is for super-resolution models whose small pictures no other model draws; leave "
                           "it out.")  # fmt: skip
    values = read_conditions([spec for spec in specs if spec is not small], args.label, args.condition, n)
    if small is None:
        return values
    if args.low_res is None:
        channels, height, width = small.shape
        raise RequestError(f"This model enlarges pictures; add --low-res FILE, a picture of {height}×{width} or a .npy "
                           f"of floats [n, {height}, {width}, {channels}] in [-1, 1].")  # fmt: skip
    return values | {LOW_RES: _read(args.low_res, small.shape[0], (small.shape[1], small.shape[2]), "--low-res")}


def _images(manifest: DenoiserManifest, path: str) -> NDArray[Any]:
    """Images [n, H, W, C] of one file."""
    found = _read(path, manifest.image.channels, manifest.image.shape, "images")
    return found[None] if found.ndim == 3 else found


def _read(path: str, channels: int, shape: tuple[int, int], name: str) -> NDArray[Any]:
    if path.lower().endswith(".npy"):
        return load_array(path, name)
    try:
        return read_picture(path, channels, shape)
    except WrongSizeError as error:
        raise RequestError(f"{error}; this model takes no other size.") from error


def refuse_given(args: argparse.Namespace, usual: Mapping[str, Any], why: str) -> None:
    """Raise `RequestError` for an option that differs from what is usual; `why` says what it is for instead."""
    for name, default in usual.items():
        if getattr(args, name, default) != default:
            raise RequestError(f"--{name.replace('_', '-')} is {one_line(why)}; leave it out.")
