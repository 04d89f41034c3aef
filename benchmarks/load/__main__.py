"""How a service keeps up: the engine, a lock around `sample`, and batches that wait to fill.

    python benchmarks/load                        the digits model: some three minutes
    python benchmarks/load OUT.onnx --slots 16 --clients 32 --rates 0.3,0.6,0.9 --seconds 60
    python benchmarks/load OUT.onnx --clients 0 --rates 0.6 --seconds 60 --turns 1       a part of that

Single images, every one of another seed and label. First the images per second of one offline batch after another, and
of an engine whose slots are all taken. Then those of clients that ask again as soon as they are answered, and requests
that come by chance, at shares of the offline rate. Seconds are those from the request to its image. Everything in one
process, the ways in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from digits import given_or_digits
from full import full_rate, offline_rate
from measuring import Ask, Served, closed, offered
from ways import Conditions, Filling, Locked, Running, Way

from pixelsnail_infer.runtime import Sampler, load
from pixelsnail_infer.runtime.bench.machine import machine


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="an export (default: the digits model, exported first)")
    parser.add_argument("--slots", type=int, default=16, help="largest batch of every way (default 16)")
    parser.add_argument("--clients", type=int, default=64, help="that ask at once (default 64; 0: none)")
    parser.add_argument("--rates", default="0.1,0.3,0.6,0.9", help="shares of the offline rate")
    parser.add_argument("--seconds", type=float, default=5.0, help="of every measurement (default 5)")
    parser.add_argument("--turns", type=int, default=3, help="how often everything is measured (default 3)")
    parser.add_argument("--threads", type=int, help="of the engine (default: all cores)")
    parser.add_argument("-o", "--out", type=Path, help="write the figures here, as JSON")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    with given_or_digits(args.model) as path, load(path, threads=args.threads) as sampler:
        found = measured(sampler, args)
    if args.out:
        args.out.write_text(json.dumps(found, indent=1))
    return 0


def measured(sampler: Sampler, args: argparse.Namespace) -> dict[str, Any]:
    conditions = conditions_of(sampler)
    rates = at_full_load(sampler, args, conditions)
    full = statistics.median(rates["offline"])
    ways: list[Way] = [Locked(sampler), Filling(sampler, args.slots), Running(sampler, args.slots)]
    found = []
    if args.clients:
        kept = in_turns(ways, args.turns, lambda ask, _: closed(ask, args.clients, args.seconds), conditions)
        found += [told(f"{args.clients} clients", name, several, full) for name, several in kept.items()]
    for rate in (float(share) * full for share in args.rates.split(",") if share):
        able = [way for way in ways if way.name != Locked.name or rate < rates["alone"]]  # else its queue only grows
        measure = partial(offered, rate=rate, seconds=args.seconds)
        kept = in_turns(able, args.turns, measure, conditions)
        found += [told(f"{rate:.3g} requests/s", name, several, full) for name, several in kept.items()]
    for way in ways:
        way.close()
    return {"machine": machine(), "slots": args.slots, **rates, "found": found}


def at_full_load(sampler: Sampler, args: argparse.Namespace, conditions: Callable[[int], Conditions]) -> dict[str, Any]:
    """Images per second of offline batches and of a full engine, in turns; and of one image after another."""
    offline, engine = list[float](), list[float]()
    for _ in range(args.turns):
        offline.append(offline_rate(sampler, args.slots, conditions, args.seconds))
        engine.append(full_rate(sampler, args.slots, conditions, args.seconds, 2 * offline[-1]))
    ratio = statistics.median(mine / other for mine, other in zip(engine, offline, strict=True))
    print(f"one batch of {args.slots} after another: {statistics.median(offline):.4g} images/s; an engine of as many "
          f"slots, all taken: {statistics.median(engine):.4g} images/s ({100 * ratio:.0f} %)", flush=True)
    return {"offline": offline, "full": engine, "alone": offline_rate(sampler, 1, conditions, args.seconds / 4)}


def in_turns(ways: list[Way], turns: int, measure: Callable[[Ask, int], Served],
             conditions: Callable[[int], Conditions]) -> dict[str, list[Served]]:  # fmt: skip
    """What `measure(ask, turn)` gives of every way, by its name."""
    kept: dict[str, list[Served]] = {way.name: [] for way in ways}
    for turn in range(turns):
        for way in ways:
            kept[way.name].append(measure(asking(way, conditions, turn), turn))
    return kept


def conditions_of(sampler: Sampler) -> Callable[[int], Conditions]:
    """Conditions of request k: another class for every one; of anything else a few random ones, in turns."""
    rng = np.random.default_rng(0)
    held = [{spec.name: rng.integers(0, spec.levels, spec.shape) if spec.levels
             else rng.normal(size=spec.shape).astype(np.float32) for spec in sampler.manifest.conditions}
            for _ in range(16)]  # fmt: skip
    return lambda k: held[k % len(held)]


def asking(way: Way, conditions: Callable[[int], Conditions], turn: int) -> Ask:
    return lambda k: way.ask(turn << 32 | k, conditions(k))


def told(load: str, name: str, several: list[Served], full: float) -> dict[str, Any]:
    """The medians of several measurements, printed."""
    middle = {key: statistics.median(asdict(one)[key] for one in several) for key in ("rate", "p50", "p95", "p99")}
    print(f"{load:>18s}  {name:26s} {middle['rate']:8.1f} images/s ({100 * middle['rate'] / full:3.0f} %)   "
          f"p50 {middle['p50'] * 1e3:8.1f}  p95 {middle['p95'] * 1e3:8.1f}  p99 {middle['p99'] * 1e3:8.1f} ms",
          flush=True)
    return {"load": load, "way": name, **middle}


if __name__ == "__main__":
    raise SystemExit(main())
