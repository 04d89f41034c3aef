"""Thousands of mixed requests against the engine and the service, while faults are injected.

    python benchmarks/stress                          10,000 requests each way on the digits model: some minutes
    python benchmarks/stress --requests 300 --pool 40 the quick form, which `make test` runs
    python benchmarks/stress --parts engine --seed 7

Every accepted request must end in its images or a stated error, none is lost or answered twice, every image equals that
of `sample`, memory stays flat, and no thread or file is left. What is not so is printed, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from against_engine import against_engine
from against_server import against_server
from digits import given_or_digits
from outcomes import Outcomes
from wishes import wishes

from pixelsnail_infer.runtime import load

PARTS = {"engine": against_engine, "server": against_server}
FLAT = 32 << 20  # bytes that memory may grow by after a tenth of the requests


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="an export (default: the digits model, exported first)")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)} (default all)")
    parser.add_argument("--requests", type=int, default=10_000, help="of every part (default 10000)")
    parser.add_argument("--clients", type=int, default=24, help="that ask at once (default 24)")
    parser.add_argument("--pool", type=int, default=300, help="different requests (default 300)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random (default 0)")
    parser.add_argument("--threads", type=int, help="of the engine (default: all cores)")
    parser.add_argument("-o", "--out", type=Path, help="write the figures here, as JSON")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    found: dict[str, Any] = {}
    wrong = 0
    with given_or_digits(args.model) as path:
        with load(path, threads=args.threads) as sampler:
            pool = wishes(sampler, args.pool, args.seed)
        for part in filter(None, args.parts.split(",")):
            outcomes, figures = PARTS[part](path, pool, args.requests, args.clients, args.seed, args.threads)
            if figures["growth_bytes"] > FLAT:
                outcomes.fault(f"memory grew by {figures['growth_bytes'] / 2**20:.0f} MiB after the first tenth")
            found[part] = figures | {"outcomes": dict(outcomes.counts), "wrong": outcomes.wrong}
            show(part, outcomes, figures)
            wrong += len(outcomes.wrong)
    if args.out:
        args.out.write_text(json.dumps(found, indent=1))
    return 1 if wrong else 0


def show(part: str, outcomes: Outcomes, figures: dict[str, Any]) -> None:
    print(f"{part}: {figures['requests']} requests in {figures['seconds']:.1f} s")
    for kind, count in outcomes.counts.most_common():
        print(f"  {count:6d} {kind}")
    print(f"  memory after the first tenth: at most {figures['growth_bytes'] / 2**20:.1f} MiB more")
    if "failures" in figures:
        print(f"  {figures['failures']} faults and {figures['stalls']} stalls of the backend, "
              f"{figures['images']} images, occupancy {figures['occupancy']:.0%}")
    for words in outcomes.wrong[:20]:
        print(f"  WRONG: {words}")
    print("  nothing wrong" if not outcomes.wrong else f"  {len(outcomes.wrong)} things wrong")


if __name__ == "__main__":
    raise SystemExit(main())
