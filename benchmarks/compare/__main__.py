"""How fast an image is drawn: the way that people use today beside ours, and how that grows with canvas and batch.

    python benchmarks/compare                                   all of it: about ten minutes on two quiet cores
    python benchmarks/compare --parts ways --model rgb          one part of it, for another network
    python benchmarks/compare --parts ways --model pixelcnnpp --only public,ours --batches 1,16 --public-batches 1,16
    python benchmarks/compare -o out/bench --batches 1,16 --no-compile

Networks of full size with random weights, exported without proofs (`export-model` has them). Everything is in one
process, in turns, with the same threads: for every row that is timed each way draws it once, and then they start again.
Times are medians over the turns, and an image is extrapolated from its evenly spaced rows. Writes bench.json, bench.md
and bench.png.

    ways      the public sampler; our cached step with nothing hoisted to rows; the staged program in eager PyTorch and
              in torch.compile; ONNX Runtime. And how many parameters are read at each row and step, by stride
    canvas    the stock bottom architecture at 16x16, 32x32 and 64x64
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "gpu_check"))  # its networks
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from models import MADE, PRIOR, Case, case
from phases import reads
from tables import picture, tables
from unhoisted import without_rows
from ways import Looped, Public, Row, eager, in_turns, onnxruntime

from pixelsnail_infer.runtime.bench.machine import Others, load_average, machine

PARTS = ("ways", "canvas")
PUBLIC, PLAIN, EAGER, COMPILED, OURS = (
    "public sampler", "cached step, nothing hoisted", "staged, eager PyTorch", "staged, torch.compile",
    "staged, ONNX Runtime",
)  # fmt: skip
ONLY = {"public": PUBLIC, "plain": PLAIN, "eager": EAGER, "compile": COMPILED, "ours": OURS}
CANVAS = (PRIOR, "--no-attention", "--condition", "codes")
SIDES = (16, 32, 64)
ROWS = 4


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=Path("out/bench"), help="folder for all files")
    parser.add_argument("--parts", default=",".join(PARTS), help="of ways, canvas (default both)")
    parser.add_argument("--model", default="top", choices=sorted(MADE), help="the network of ways (default top)")
    parser.add_argument("--batches", default="1,4,16,64", help="batch sizes of ways (default 1,4,16,64)")
    parser.add_argument("--public-batches", default="1", help="those of the public sampler, which is slow (default 1)")
    parser.add_argument("--only", default=",".join(ONLY), help=f"of the ways {', '.join(ONLY)} (default all)")
    parser.add_argument("--sides", default=",".join(map(str, SIDES)), help="sides of canvas (default 16,32,64)")
    parser.add_argument("--canvas-options", default="", help="for make_stock_prior.py, such as '--channel 32'")
    parser.add_argument("--turns", type=int, default=2, help="how often everything is timed (default 2)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every way (default: all cores)")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which takes minutes")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    found: dict[str, Any] = {"machine": machine(), "threads": args.threads, "arguments": sys.argv[1:],
                             "load_average_before": load_average(), "parts": {}, "lacking": {}}  # fmt: skip
    others, started = Others(), time.perf_counter()
    for part in filter(None, args.parts.split(",")):
        found["parts"][part] = {"ways": ways, "canvas": canvas}[part](args, found["lacking"])
        found |= {"load_average_after": load_average(), "other_processes_cores": others.cores(),
                  "took_s": round(time.perf_counter() - started)}  # fmt: skip
        (args.out / "bench.json").write_text(json.dumps(found, indent=1) + "\n")
    text = tables(found)
    (args.out / "bench.md").write_text(text + "\n")
    (args.out / "bench.png").write_bytes(picture(found))
    print(text)
    return 0


def ways(args: argparse.Namespace, lacking: dict[str, str]) -> dict[str, Any]:
    """Every way at every batch size; the public one at those of `--public-batches`, torch.compile at batch 1 alone."""
    network = case(args.model, args.out)
    height, width = network.source.shape
    compiled = timed("staging", network.compiled)
    path = timed("writing", lambda: network.export("onnx", compiled=compiled))
    ours = onnxruntime(path, args.threads)
    made: dict[str, Callable[[], Any]] = {
        PUBLIC: lambda: Public(network), PLAIN: lambda: unhoisted(network, args, lacking),
        EAGER: lambda: eager(compiled, ours.manifest, args.threads), OURS: lambda: ours,
        COMPILED: lambda: eager(compiled, ours.manifest, args.threads, torch.compile),
    }  # fmt: skip
    wanted = {ONLY[name] for name in args.only.split(",")} - ({COMPILED} if args.no_compile else set())
    held = {name: make() for name, make in made.items() if name in wanted}
    sizes = {PUBLIC: numbers(args.public_batches), COMPILED: [1]}
    found: dict[str, Any] = {"model": args.model, "shape": [height, width], "rows_timed": spaced(height),
                             "reads": reads(compiled), "times": []}  # fmt: skip
    for size in numbers(args.batches):
        rows: dict[str, Row] = {}
        for name, way in held.items():
            if way is not None and size in sizes.get(name, [size]):
                ready(rows, name, way, size, lacking)
        found["times"] += images(rows, (height, width), size, args.turns)
    return found


def canvas(args: argparse.Namespace, lacking: dict[str, str]) -> dict[str, Any]:
    """The same network at every side: the public way at batch 1, ours at 1 and 16."""
    found: dict[str, Any] = {"model": "stock bottom architecture", "times": []}
    for side in numbers(args.sides):
        options = (*CANVAS, "--shape", str(side), str(side), *args.canvas_options.split())
        network = case(f"bottom-{side}", args.out, options)
        ours = onnxruntime(timed(f"writing {side}x{side}", network.export, "onnx"), args.threads)
        for size in (1, 16):
            rows: dict[str, Row] = {PUBLIC: Public(network).row(1)} if size == 1 else {}
            ready(rows, OURS, ours, size, lacking)
            found["times"] += images(rows, (side, side), size, args.turns)
    return found


def unhoisted(network: Case, args: argparse.Namespace, lacking: dict[str, str]) -> Looped | None:
    """The same network with everything in the step."""
    folder = args.out / "unhoisted"
    folder.mkdir(exist_ok=True)
    try:
        with without_rows():
            path = timed("writing, nothing hoisted", Case(network.name, network.source, folder).export, "onnx")
        return onnxruntime(path, args.threads)
    except Exception as error:  # a network whose program only works with rows
        lacking[PLAIN] = " ".join(str(error).split())[:300]
        return None


def ready(rows: dict[str, Row], name: str, way: Any, size: int, lacking: dict[str, str]) -> None:
    """Add a way at a batch size, warmed up, or say what it lacks."""
    try:
        rows[name] = timed(f"{name}, batch {size}", way.row, size)
    except Exception as error:  # of a compiler, or for want of memory
        lacking[f"{name}, batch {size}"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def images(rows: dict[str, Row], shape: tuple[int, int], size: int, turns: int) -> list[dict[str, Any]]:
    """Every way's seconds per image and microseconds per pixel."""
    height, width = shape
    seconds = {name: row * height / size for name, row in in_turns(rows, spaced(height), turns).items()}
    for name, value in seconds.items():
        print(f"{name}, {height}x{width}, batch {size}: {value:.3f} s per image", flush=True)
    return [{"way": name, "shape": [height, width], "batch": size, "seconds_per_image": value,
             "us_per_pixel": 1e6 * value / (height * width)} for name, value in seconds.items()]  # fmt: skip


def spaced(height: int) -> list[int]:
    """Nearly evenly spaced rows around the middle of the canvas, one of each remainder by 4: networks with
    strides do not compute the same at all of them."""
    if height < 2 * ROWS:
        return list(range(height))
    return sorted({int(height * (k + 0.5) / ROWS) + step for k, step in enumerate((-1, 2, -3, 0))})


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]



def timed(what: str, work: Callable[..., Any], *given: Any) -> Any:
    """Do it, and say how long it took."""
    started = time.perf_counter()
    done = work(*given)
    print(f"    {what}: {time.perf_counter() - started:.1f} s", flush=True)
    return done


if __name__ == "__main__":
    sys.exit(main())
