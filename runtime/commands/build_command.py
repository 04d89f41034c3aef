"""The command `build`: TensorRT engines of an export, for the GPU at hand or ahead of time for others."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator
from contextlib import nullcontext

from pixelsnail_infer.codec import CODEC_KINDS
from pixelsnail_infer.commandline import ArgumentParser
from pixelsnail_infer.document import kind_of
from pixelsnail_infer.errors import BackendError, GraphFileError
from pixelsnail_infer.manifest import METADATA_KEY, PARTS
from pixelsnail_infer.messages import shown
from pixelsnail_infer.plan import Plan, require
from pixelsnail_infer.runtime.backends import is_device
from pixelsnail_infer.runtime.backends.cuda_device import CudaDevice
from pixelsnail_infer.runtime.backends.tensorrt_builder import LARGEST, LARGEST_WHOLE, check_targets
from pixelsnail_infer.runtime.backends.tensorrt_cuda import TensorRtBackend
from pixelsnail_infer.runtime.backends.tensorrt_engines import FOLDER
from pixelsnail_infer.runtime.backends.tensorrt_keeping import build_and_keep, engine_place
from pixelsnail_infer.runtime.backends.tensorrt_package import Package, find_package
from pixelsnail_infer.runtime.codecs.codec import read_codec
from pixelsnail_infer.runtime.commands.options import checked, whole
from pixelsnail_infer.runtime.commands.progress import ProgressBar
from pixelsnail_infer.runtime.files.archive_files import is_archive
from pixelsnail_infer.runtime.files.graphfile import GraphFile, read_graph
from pixelsnail_infer.runtime.files.model_files import ModelFiles, expect_kind

__all__ = ["add_build", "run_build"]

_HELP = f"""\
Build the TensorRT engines of an export: one for each of its files, kept beside them.

  pixelsnail-infer build top.onnx                          for the GPU of this machine
  pixelsnail-infer build top.onnx decoder.onnx --sm 8.9    for another one, on a machine without a GPU
  pixelsnail-infer build top.onnx --sm 8.0 --sm 12.0       for two kinds at once

Loading a model with the backend tensorrt does the same where an engine is missing, so this is needed only to build
ahead of time, for larger batches, or in place of an engine that was refused. --sm takes compute capabilities (8.0 A100,
8.6 RTX 30, 8.9 RTX 40 and L4, 12.0 RTX 50) and needs TensorRT for RTX: pip install 'pixelsnail-infer[tensorrt-rtx]'.
The other TensorRT, pip install 'pixelsnail-infer[tensorrt]', builds only for the GPU that it runs on.

An engine serves one version of TensorRT and one file; when either changes it is built again. To load one is like
running a program, so only files are loaded that you or root own, and nobody else can write. Where the model's folder
cannot be written, name another one with --engines, and set {FOLDER} to it when you load the model."""
_CAPABILITY = re.compile(r"\d{1,2}\.\d", re.ASCII)


def add_build(commands: argparse._SubParsersAction[ArgumentParser]) -> None:
    """Add the command; `run` of what it parses returns an exit code."""
    parser = commands.add_parser("build", help="build TensorRT engines", description=_HELP)
    parser.add_argument("models", nargs="+", metavar="OUT.onnx", help="a prior's step file, a decoder, an encoder")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--device", type=checked(_gpu), help="the GPU to build for: cuda, cuda:1 … "
                       "(default cuda)")  # fmt: skip
    where.add_argument("--sm", type=checked(_capability), action="append", metavar="X.Y",
                       help="a compute capability to build for, without a GPU; may be repeated")  # fmt: skip
    parser.add_argument("--max-batch", type=whole(1), help="the largest batch that the engines take (default "
                        f"{LARGEST}; {LARGEST_WHOLE} of score graphs, decoders and encoders)")  # fmt: skip
    parser.add_argument("--engines", metavar="FOLDER", help=f"where to keep them (default: {FOLDER}, or the model's)")
    parser.add_argument("--threads", type=whole(1), help="threads of the builder (default: its own choice)")
    parser.set_defaults(run=run_build)


def run_build(args: argparse.Namespace) -> int:
    """Build every engine of every model, and print what was built."""
    files = [file for model in args.models for file in graph_files(model)]
    package = find_package()
    cuda = None if args.sm else CudaDevice(args.device or "cuda")
    targets = tuple(dict.fromkeys(args.sm)) if cuda is None else (cuda.capability,)
    if cuda is None or package.rtx:
        check_targets(package, targets)
    lines, started = [], time.perf_counter()
    with ProgressBar(len(files), "engines") as progress, nullcontext() if cuda is None else cuda.here():
        progress(0, len(files))
        for done, file in enumerate(files, 1):
            lines.append(_built(package, file, targets, cuda.name if cuda else "", args))
            progress(done, len(files))
    print(*lines, sep="\n")
    print(f"{len(lines)} engines for SM {', '.join(targets)} by {package} in {time.perf_counter() - started:.1f} s")
    return 0


def graph_files(path: str) -> Iterator[GraphFile]:
    """The checked files of an export that TensorRT can run: a prior's, or the one of a decoder or an encoder."""
    if is_archive(path):
        raise GraphFileError(f"{path} is a TorchScript archive, and TensorRT runs ONNX files; export it as ONNX.")
    read = read_graph(path)
    expect_kind(read, ("prior", *CODEC_KINDS))
    if kind_of(read.metadata[METADATA_KEY]) in CODEC_KINDS:
        file, codec = read_codec(path)
        _check(codec.plan, path)
        yield file
        return
    files = ModelFiles(path)
    _check(files.manifest.plan, path)
    for part in ("step", *(part for part in files.manifest.parts if part in PARTS)):
        yield files.open(part)


def _built(package: Package, file: GraphFile, targets: tuple[str, ...], gpu: str, args: argparse.Namespace) -> str:
    """Build one engine; what to print of it."""
    started = time.perf_counter()
    place = engine_place(package, file, gpu, args.max_batch, args.engines)
    built = build_and_keep(package, place, targets, args.max_batch, args.threads)
    size = len(built.plan) / (1 << 20)
    return f"{place.path}  {size:.1f} MiB, {time.perf_counter() - started:.1f} s"


def _check(plan: Plan, name: str) -> None:
    advice = f"which {name} was exported with: export the checkpoint again with what it has"
    require(plan, TensorRtBackend.plans, "the backend tensorrt", BackendError, advice)


def _capability(text: str) -> str:
    if not _CAPABILITY.fullmatch(text):
        raise ValueError(f"{shown(text)} is no compute capability, expected one such as 8.9")
    return text


def _gpu(text: str) -> str:
    if text == "cpu" or not is_device(text):
        raise ValueError(f"{shown(text)} is no GPU, expected cuda, cuda:1, cuda:2, …")
    return text
