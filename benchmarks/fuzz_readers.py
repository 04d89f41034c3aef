"""Hostile manifests, graph files, arrays, labels and TensorFlow bundles, by the thousand: each must be read right or
refused by one of the project's errors, in bounded time and memory.

    python benchmarks/fuzz_readers.py                              # 3,000 of each kind
    python benchmarks/fuzz_readers.py --kind array --seed 57 --count 1

Kind and seed make one case, the same on every run. Every few hundred run in a process of their own, which may take no
more than --memory and, for one case, --seconds. `engine` loads and runs exports of which one graph was changed; where
ONNX Runtime itself dies of such a graph or never ends, that is counted apart. Exit code 1 when anything is wrong.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the cases stand among the tests

from tests.readers.cases import CASES

CHUNK = 250


def child(kind: str, seeds: range, memory: int, link: Connection) -> None:
    """Run cases in this process, sending (seed, None) before each and (seed, what came of it) after."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the engine's own complaints
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            link.send((seed, None))
            try:
                outcome = CASES[kind](Random(f"{kind} {seed}"), Path(folder))
            except BaseException:
                outcome = "wrong: " + traceback.format_exc(limit=-4)
            link.send((seed, outcome))


def outcomes(kind: str, seeds: range, memory: int, seconds: float) -> Iterator[tuple[int, str]]:
    """What came of every case; a process that dies or takes too long gives way to another one."""
    while seeds:
        here, there = get_context("fork").Pipe(duplex=False)
        process = get_context("fork").Process(target=child, args=(kind, seeds[:CHUNK], memory, there))
        process.start()
        there.close()
        last, ended = seeds[0] - 1, ""
        for seed, outcome in _received(here, seconds):
            if outcome is not None:
                last = seed
                yield seed, outcome
        if last < seeds[:CHUNK][-1]:
            ended = "too slow" if process.is_alive() else f"died of signal {-(process.exitcode or 0)}"
            process.kill()
            last += 1
            yield last, ended
        process.join()
        seeds = seeds[seeds.index(last) + 1 :]


def _received(link: Connection, seconds: float) -> Iterator[tuple[int, Any]]:
    try:
        while link.poll(seconds):
            yield link.recv()
    except EOFError:
        time.sleep(0.2)  # the process is ending


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=CASES, action="append", help="may be repeated; default all")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--count", type=int, default=3000, help="of each kind")
    parser.add_argument("--seconds", type=float, default=20.0, help="that one case may take (default 20)")
    parser.add_argument("--memory", type=int, default=3000, metavar="MB", help="address space of a process")
    parser.add_argument("-v", "--verbose", action="store_true", help="print every case")
    args = parser.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    wrong = False
    for kind in args.kind or CASES:
        counts: Counter[str] = Counter()
        started = time.monotonic()
        for seed, outcome in outcomes(kind, range(args.seed, args.seed + args.count), args.memory << 20, args.seconds):
            bad = " " in outcome and not (kind == "engine" and not outcome.startswith("wrong"))
            counts[outcome.partition(":")[0]] += 1
            wrong |= bad
            if bad or args.verbose:
                print(f"{kind} {seed}: {outcome}", flush=True)
        shown = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        print(f"{kind:<10}{sum(counts.values()):>7} in {time.monotonic() - started:.0f} s: {shown}", flush=True)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
