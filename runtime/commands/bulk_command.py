"""The command `bulk`: very many images, into a folder of shards, here or on the workers of a Ray cluster."""

from __future__ import annotations

import argparse
import os
import time
from contextlib import ExitStack
from pathlib import Path

from pixelsnail_infer.commandline import ArgumentParser
from pixelsnail_infer.errors import BackendError
from pixelsnail_infer.messages import one_line, shown
from pixelsnail_infer.runtime.bulk.drawer import ShardDrawer
from pixelsnail_infer.runtime.bulk.filling import Drawn, OnImages, drawn_here, fill_folder
from pixelsnail_infer.runtime.bulk.folder import BulkFolder, open_folder
from pixelsnail_infer.runtime.bulk.plan import Models, Plan, make_plan
from pixelsnail_infer.runtime.bulk.shards import FORMATS, Shard
from pixelsnail_infer.runtime.commands.labels import class_condition, read_cycles
from pixelsnail_infer.runtime.commands.options import add_conditions, add_engine, add_stages, checked, whole
from pixelsnail_infer.runtime.commands.progress import ProgressBar
from pixelsnail_infer.runtime.pipeline.pipeline import Pipeline
from pixelsnail_infer.runtime.requests.request import DEFAULT_MAX_BATCH

_HELP = """\
Draw very many images into a folder of files, and go on after any interruption.

  pixelsnail-infer bulk digits.onnx --n 1000000 --label all --seed 0 -o out/
  pixelsnail-infer bulk top.onnx bottom.onnx decoder.onnx --n 1000000 --temperature 1,0.8 -o out/
  pixelsnail-infer bulk digits.onnx --n 1000000 --label 3 -o out/ --format parquet --ray --workers 8

One model, or priors and a decoder as for `generate`. Image k is the one that `sample` or `generate` with the same
options gives as number k, whatever the shards and the workers are. (Codes were the same in every batch that the tests
try; logits of different batch sizes may differ in the last bit.)

The same command goes on where a stopped one left; when everything is there it says so. A file in the folder is always
whole, and its name ends in its sha256, which is checked when the folder is opened again. job.json says what the folder
holds; a command that asks for something else is refused. Images of a file that was not finished are drawn again.

A .npy is a structured array, a .parquet a table; both have seed and index of every image (its noise key), its class,
and codes (codes of one model, in the smallest unsigned type), or image (uint8 [H, W, C]), or the codes of every level
by name. `pixelsnail_infer.runtime.bulk.reading.read_shards` reads either, np.load and pyarrow do, too.

--ray draws on a Ray cluster, at an address or on this machine alone; its workers need the models at the same paths, the
files are written here."""
_EVERY_CLASS = "all"


def add_bulk(commands: argparse._SubParsersAction[ArgumentParser]) -> None:
    """Add the command; `run` of what it parses returns an exit code."""
    parser = commands.add_parser("bulk", help="draw very many images into files", description=_HELP)
    parser.add_argument("files", metavar="FILE.onnx", nargs="+", help="a model; or priors, then their decoder")
    parser.add_argument("--n", type=whole(1), required=True, help="images in all")
    add_conditions(parser, every=_EVERY_CLASS)
    add_stages(parser)
    parser.add_argument("--format", choices=FORMATS, default="npy", help="of the files (default npy)")
    parser.add_argument("--shard", type=whole(1), help="images in a file (default: about 64 MiB, at most 1,024)")
    parser.add_argument("--codes", action="store_true", help="write the codes of every level beside the images")
    add_engine(parser, f"images drawn together (default {DEFAULT_MAX_BATCH})", each=True)
    parser.add_argument("--ray", nargs="?", const="", type=checked(_address), metavar="ADDRESS",
                        help="draw on a Ray cluster: at HOST:PORT, auto for the one of this machine, or nothing for "
                        "a new one of this machine alone")  # fmt: skip
    parser.add_argument("--workers", type=whole(0), help="processes that draw, with --ray (default: as many as the "
                        "cluster has cores for, each with --threads of them or 1; 0: this process)")  # fmt: skip
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FOLDER/", help="the folder")
    parser.set_defaults(run=run_bulk, fail=parser.error)


def run_bulk(args: argparse.Namespace) -> int:
    """Draw what the folder lacks, and print how fast it went."""
    if args.workers and args.ray is None:
        args.fail("--workers needs --ray; without it one process draws, with --threads threads")
    distributed = args.ray is not None and args.workers != 0
    if distributed:
        _require_ray()
    paths = map(os.path.abspath, args.files) if distributed else args.files  # workers may be in another folder
    models = Models(tuple(paths), dict(args.link), args.device, args.backend)
    with ExitStack() as stack:
        pipeline = stack.enter_context(models.load(1 if distributed else args.threads))
        plan = _plan(args, models, pipeline)
        with ProgressBar(unit="shards checked") as checked_bar:
            folder = stack.enter_context(open_folder(args.output, plan.job, checked_bar))
        if not (missing := folder.missing()):
            print(f"{one_line(args.output)} is complete: {_what(folder, plan)}; nothing was left to draw")
            return 0
        if distributed:
            pipeline.close()  # the workers have their own
        before, started = folder.images_done, time.perf_counter()
        with _Tally(plan.job.n, before) as tally:
            drawn = _elsewhere(args, plan, missing) if distributed else drawn_here(
                ShardDrawer(plan, pipeline), missing, tally)
            fill_folder(folder, _counted(drawn, tally) if distributed else drawn)
        folder.expect_complete()
        count, seconds = plan.job.n - before, time.perf_counter() - started
        print(f"{count:,} images in {seconds:.2f} s: {count / seconds:.4g} images per second")
        print(f"{one_line(args.output)} is complete: {_what(folder, plan)}")
    return 0


class _Tally:
    """The progress bar of a folder: called with how many images more are there."""

    def __init__(self, total: int, before: int) -> None:
        self._total, self._done = total, before
        self._bar = ProgressBar(total, "images", before)

    def __call__(self, count: int) -> None:
        self._done += count
        self._bar(self._done, self._total)

    def __enter__(self) -> _Tally:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.__exit__(None, None, None)


def _plan(args: argparse.Namespace, models: Models, pipeline: Pipeline) -> Plan:
    specs = pipeline.wiring.conditions
    labels = args.label
    if labels == _EVERY_CLASS:
        labels = range(class_condition(specs).levels or 1)
    cycles, values = read_cycles(specs, labels, args.condition)
    return make_plan(
        models, pipeline, args.n, seed=args.seed, temperature=args.temperature, top_k=args.top_k, top_p=args.top_p,
        cycles=cycles, values=values, format=args.format, shard=args.shard, codes=args.codes, batch=args.max_batch,
    )  # fmt: skip


def _elsewhere(args: argparse.Namespace, plan: Plan, missing: list[Shard]) -> Drawn:
    from pixelsnail_infer.runtime.cluster.drawing import drawn_by_workers  # imports Ray

    yield from drawn_by_workers(plan, missing, address=args.ray, workers=args.workers, threads=args.threads)


def _counted(drawn: Drawn, tally: OnImages) -> Drawn:
    for shard, data in drawn:
        yield shard, data
        tally(shard.count)  # when it is written


def _require_ray() -> None:
    try:
        from pixelsnail_infer.runtime.cluster import drawing  # noqa: F401
    except ImportError as error:
        advice = "install it (pip install 'pixelsnail-infer[ray]'), or leave --ray out"
        raise BackendError(f"--ray needs Ray and pyarrow: {advice}.") from error


def _what(folder: BulkFolder, plan: Plan) -> str:
    files = folder.shards_done[1]
    return f"{plan.job.n:,} images in {files:,} file{'s' * (files > 1)}"


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if text not in ("", "auto") and ("/" in host or not host or not port.isdecimal()):
        raise ValueError(f"{shown(text)} is no address of a Ray cluster; write HOST:PORT, or auto")
    return text
