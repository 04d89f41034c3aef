"""How a service keeps up: the engine, a lock around `sample`, and batches that wait to fill.

    python benchmarks/load                        the digits model: some three minutes
    python benchmarks/load OUT.onnx --slots 16 --clients 32 --rates 0.3,0.6,0.9 --seconds 60

Single images, every one of another seed and label. First the images per second of one offline batch after another, and
of clients that ask again as soon as they are answered. Then requests come by chance, at shares of the offline rate.
Seconds are those from the request to its image. Everything in one process, the ways in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from measuring import Served, closed, offered
from ways import Conditions, Filling, Locked, Running, Way

from pixelsnail_infer.runtime import Sampler, load
from pixelsnail_infer.runtime.bench.machine import machine

ROOT = Path(__file__).resolve().parents[2]
TURNS = 3


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="an export (default: the digits model, exported first)")
    parser.add_argument("--slots", type=int, default=16, help="largest batch of every way (default 16)")
    parser.add_argument("--clients", type=int, default=64, help="that ask at once (default 64)")
    parser.add_argument("--rates", default="0.1,0.3,0.6,0.9", help="shares of the offline rate")
    parser.add_argument("--seconds", type=float, default=5.0, help="of every measurement (default 5)")
    parser.add_argument("--threads", type=int, help="of the engine (default: all cores)")
    parser.add_argument("-o", "--out", type=Path, help="write the figures here, as JSON")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    with tempfile.TemporaryDirectory() as folder:
        path = args.model or exported(Path(folder))
        with load(path, threads=args.threads) as sampler:
            found = measured(sampler, args)
    if args.out:
        args.out.write_text(json.dumps(found, indent=1))
    return 0


def measured(sampler: Sampler, args: argparse.Namespace) -> dict[str, Any]:
    conditions = conditions_of(sampler)
    ways: list[Way] = [Locked(sampler), Filling(sampler, args.slots), Running(sampler, args.slots)]
    offline, found = [], list[dict[str, Any]]()
    kept: dict[str, list[Served]] = {way.name: [] for way in ways}
    for turn in range(TURNS):
        offline.append(offline_rate(sampler, args.slots, conditions, args.seconds))
        for way in ways:
            kept[way.name].append(closed(asking(way, conditions, turn), args.clients, args.seconds))
    full = statistics.median(offline)
    print(f"one batch of {args.slots} after another: {full:.1f} images/s")
    for name, several in kept.items():
        found.append(told(f"{args.clients} clients", name, several, full))
    for share in map(float, filter(None, args.rates.split(","))):
        kept = {way.name: [] for way in ways}
        for turn in range(TURNS):
            for way in ways:
                if way.name != Locked.name or share * full < kept_up(found, Locked.name):
                    ask = asking(way, conditions, turn)
                    kept[way.name].append(offered(ask, share * full, args.seconds, turn))
        what = f"{share * full:.1f} requests/s"
        found += [told(what, name, several, full) for name, several in kept.items() if several]
    for way in ways:
        way.close()
    return {"machine": machine(), "offline": offline, "slots": args.slots, "found": found}


def kept_up(found: list[dict[str, Any]], name: str) -> float:
    """What a way answered at most: beyond that its queue would only grow."""
    return max(entry["rate"] for entry in found if entry["way"] == name)


def offline_rate(sampler: Sampler, slots: int, conditions: Callable[[int], Conditions], seconds: float) -> float:
    several = [conditions(k) for k in range(slots)]
    stacked = {name: np.stack([held[name] for held in several]) for name in several[0]}
    started, images = time.perf_counter(), 0
    while time.perf_counter() - started < seconds or not images:
        sampler.sample(slots, seed=images, max_batch=slots, **stacked)
        images += slots
    return images / (time.perf_counter() - started)


def conditions_of(sampler: Sampler) -> Callable[[int], Conditions]:
    """Conditions of request k: another class for every one; of anything else a few random ones, in turns."""
    rng = np.random.default_rng(0)
    held = [{spec.name: rng.integers(0, spec.levels, spec.shape) if spec.levels
             else rng.normal(size=spec.shape).astype(np.float32) for spec in sampler.manifest.conditions}
            for _ in range(16)]  # fmt: skip
    return lambda k: held[k % len(held)]


def asking(way: Way, conditions: Callable[[int], Conditions], turn: int) -> Callable[[int], object]:
    return lambda k: way.ask(turn << 32 | k, conditions(k))


def told(load: str, name: str, several: list[Served], full: float) -> dict[str, Any]:
    """The medians of several measurements, printed."""
    middle = {key: statistics.median(asdict(one)[key] for one in several) for key in ("rate", "p50", "p95", "p99")}
    print(f"{load:>18s}  {name:26s} {middle['rate']:8.1f} images/s ({100 * middle['rate'] / full:3.0f} %)   "
          f"p50 {middle['p50'] * 1e3:8.1f}  p95 {middle['p95'] * 1e3:8.1f}  p99 {middle['p99'] * 1e3:8.1f} ms",
          flush=True)
    return {"load": load, "way": name, **middle}


def exported(folder: Path) -> Path:
    from pixelsnail_infer.export.cli import main as export

    path = folder / "digits.onnx"
    if export([str(ROOT / "examples" / "digits.pt"), str(path)]) != 0:
        raise SystemExit("The digits model could not be exported.")
    return path


if __name__ == "__main__":
    raise SystemExit(main())
