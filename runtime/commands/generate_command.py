"""The command `generate`: images from priors, a decoder and denoisers, drawn or completed."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pixelsnail_infer.commandline import ArgumentParser, integer
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.commands.denoising import (
    OF_DENOISERS,
    OF_PRIORS,
    add_denoising,
    input_files,
    read_with_pictures,
    refuse_given,
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
from pixelsnail_infer.runtime.commands.options import (
    add_conditions,
    add_engine,
    add_grid,
    add_output,
    add_stages,
    array_files,
    checked,
    output,
    whole,
)
from pixelsnail_infer.runtime.commands.pictures import WrongSizeError, read_picture
from pixelsnail_infer.runtime.commands.progress import ProgressBar
from pixelsnail_infer.runtime.denoising.denoiser import DENOISED_AT_ONCE
from pixelsnail_infer.runtime.files.arrays import load_array, npz
from pixelsnail_infer.runtime.files.images import as_pixels, require_pillow
from pixelsnail_infer.runtime.files.saving import check_targets
from pixelsnail_infer.runtime.pipeline.generated import Generated
from pixelsnail_infer.runtime.pipeline.loading import load_pipeline
from pixelsnail_infer.runtime.pipeline.pipeline import Pipeline
from pixelsnail_infer.runtime.requests.memory import check_images_fit
from pixelsnail_infer.runtime.requests.request import DEFAULT_MAX_BATCH

_HELP = """\
Draw images through several models: priors in order of drawing, then the decoder that makes images of their codes, then
denoisers that enlarge them; or denoisers alone.

  pixelsnail-infer generate top.onnx bottom.onnx decoder.onnx --n 16 --seed 0 -o grid.png
  pixelsnail-infer generate top.onnx bottom.onnx decoder.onnx --n 100 -o 'img_{index:04d}.png'       a file for each
  pixelsnail-infer generate top.onnx bottom.onnx decoder.onnx --label 0-9 --temperature 1,0.8 -o images.npy
  pixelsnail-infer generate top.onnx bottom.onnx --n 100 --codes codes.npz
  pixelsnail-infer generate cond64.onnx upsample.onnx --label 207 --steps ddim50 --steps ddim25 -o large.png

A prior that is conditioned on codes gets them from the earlier prior that draws such codes. Conditions given by name go
to every model that has one of that name. The other files of each export must lie beside it.

Keep a part of a picture and redraw the rest, here all but the left half of a 256×256 picture, four times:

  pixelsnail-infer generate top.onnx bottom.onnx decoder.onnx --encoder encoder.onnx \\
      --image photo.png --keep 0,0,128,256 --n 4 -o completed.png

Codes whose cell lies wholly inside the rectangle are kept, in every prior.

A denoiser that takes small pictures gets those of the model before it, or, if it is the first, --low-res.

--temperature, --top-k and --top-p take one value, or one for each prior with commas between (off: no filter). The same
seed gives the same images, whatever --max-batch and --threads are. A .npy holds the images, float32 [n, H, W, C], and
--codes the codes of every level by name, int64 [n, h, w]. {index}, {seed} and {label} in the name of -o, or a folder
(-o out/), make a file for every image; the text chunks of a .png say how it was drawn."""


def add_generate(commands: argparse._SubParsersAction[ArgumentParser]) -> None:
    """Add the command; `run` of what it parses returns an exit code."""
    parser = commands.add_parser(
        "generate", help="draw images through several models", description=_HELP
    )
    parser.add_argument("files", metavar="FILE.onnx", nargs="+", help="priors in order of drawing, then the decoder, "
                        "then denoisers")
    parser.add_argument("--n", type=whole(1), help=f"images (default: one per label, or {DEFAULT_N})")
    add_conditions(parser)
    add_stages(parser)
    parser.add_argument("--image", metavar="FILE", help="a picture to complete, of the encoder's size, or a .npy")
    parser.add_argument("--keep", type=checked(_rectangle), metavar="X0,Y0,X1,Y1", help="what stays of it, in pixels: "
                        "columns X0 … X1 - 1 of rows Y0 … Y1 - 1")
    parser.add_argument("--encoder", metavar="FILE.onnx", help="the encoder of the decoder's model, for --image")
    parser.add_argument("--fit", action="store_true", help="crop the picture's middle and resize it to the size needed")
    add_denoising(parser, each=True)
    add_grid(parser)
    add_engine(parser, f"images in work at once (default {DEFAULT_MAX_BATCH}, in denoisers "
               f"{DENOISED_AT_ONCE})", each=True)
    parser.add_argument("--codes", type=output(".npz"), metavar="FILE.npz", help="write the codes of every level")
    add_output(parser)
    parser.set_defaults(run=run_generate, fail=parser.error)


def run_generate(args: argparse.Namespace) -> int:
    """Draw, write the files, and print how long it took."""
    n = images_asked(args)
    _check_usage(args)
    paths = [] if args.output is None else args.output.paths(n, args.seed, args.label)
    inputs = [*args.files, args.encoder, args.image, *array_files(args), *input_files(args)]
    check_targets(paths, inputs, make_folders=args.output is not None and args.output.folder)
    if args.codes is not None:
        check_targets([args.codes], inputs)
    if args.output is not None and args.output.picture:
        require_pillow()
    how = {"device": args.device, "backend": args.backend, "threads": args.threads}
    with load_pipeline(args.files, encoder=args.encoder, links=dict(args.link), **how) as pipeline:
        drawn = pipeline.wiring.drawn
        if args.output is not None and drawn is None:
            raise RequestError("These models draw codes, not images; add their decoder's file, or write --codes only.")
        if args.codes is not None and not pipeline.wiring.names:
            raise RequestError("These models draw no codes, only images; leave --codes out.")
        denoising = _denoising(args, pipeline)
        check_images_fit(n, pipeline.image_bytes)
        if drawn is not None:
            check_picture(args, n, drawn.shape)
        conditions = read_with_pictures(args, pipeline.wiring.conditions, n)
        image = None if args.image is None else _read_image(pipeline, args.image, args.fit)
        started = time.perf_counter()
        with ProgressBar(unit="codes" if pipeline.priors else "pixels") as progress:
            found = pipeline.generate(
                n, seed=args.seed, temperature=args.temperature, top_k=args.top_k, top_p=args.top_p, image=image,
                keep=args.keep, progress=progress, max_batch=args.max_batch, **denoising, **conditions,
            )  # fmt: skip
        seconds = time.perf_counter() - started
    result = None
    if args.output is not None and drawn is not None and found.images is not None:
        text = how_drawn(args, args.files, pipeline.manifests)
        if not pipeline.priors:
            text = {name: held for name, held in text.items() if name not in OF_PRIORS}
        text |= {name: ";".join(map(str, held)) if isinstance(held, list) else str(held)
                 for name, held in denoising.items() if held is not None and name != "clip"}
        result = Drawn(found.images, as_pixels(found.images, drawn.values), None, text)
    write_drawn(args, paths, result, [] if args.codes is None else [(args.codes, npz(found.by_name))])
    print(f"{_what(found, n)} in {seconds:.2f} s")
    print_written(paths)
    print_written([] if args.codes is None else [args.codes])
    return 0


def _check_usage(args: argparse.Namespace) -> None:
    if args.output is None and args.codes is None:
        args.fail("give -o FILE.png, -o FILE.npy or --codes FILE.npz")
    completes = any(given is not None for given in (args.encoder, args.keep)) or args.fit
    if (args.image is None) != (args.keep is None) or (args.image is None and completes):
        args.fail("--image and --keep go together, and --encoder and --fit go with them")
    check_grid_options(args)


def _denoising(args: argparse.Namespace, pipeline: Pipeline) -> dict[str, Any]:
    """The settings of the denoisers; raises `RequestError` for options that no model takes."""
    if not pipeline.denoisers:
        refuse_given(args, OF_DENOISERS, "for denoisers, and there is none among these models")
        return {}
    if not pipeline.priors:
        refuse_given(args, OF_PRIORS, "for models that draw pixel by pixel, and there is none among these")
    steps = args.steps[0] if args.steps and len(args.steps) == 1 else args.steps
    return {"steps": steps, "eta": args.eta, "sampler": args.sampler, "clip": not args.no_clip}


def _read_image(pipeline: Pipeline, path: str, fit: bool) -> NDArray[Any]:
    spec = pipeline.wiring.taken
    if spec is None:
        raise RequestError("--image needs --encoder FILE.onnx, the encoder of the decoder's model.")
    if Path(path).suffix == ".npy":
        return load_array(path, "--image")
    if spec.values != "pixels":
        raise RequestError(f"{path} is no .npy file; the encoder takes {spec.values} values, not pictures.")
    try:
        return read_picture(path, spec.channels, spec.shape, fit=fit)
    except WrongSizeError as error:
        raise RequestError(f"{error}; resize it, or add --fit.") from error


def _what(found: Generated, n: int) -> str:
    many = "s" if n > 1 else ""
    codes = ", ".join(f"{name} {held.shape[1]}×{held.shape[2]}" for name, held in found.by_name.items())
    if found.images is None:
        return f"codes of {n} image{many} ({codes})"
    height, width = found.images.shape[1:3]
    return f"{n} image{many} of {height}×{width}" + (f" from codes {codes}" if codes else "")


def _rectangle(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(integer(item) for item in text.split(","))
    except argparse.ArgumentTypeError:
        numbers = ()
    if len(numbers) != 4:
        raise ValueError(f"{shown(text)} is not a rectangle; write X0,Y0,X1,Y1, as in 0,0,128,256")
    return numbers
