"""Random networks through the exporter, by the thousand: none may be exported and replay wrongly.

    python benchmarks/fuzz_exporter.py                          # 2,000 networks, half of them with a planted leak
    python benchmarks/fuzz_exporter.py --seed 2000 --count 500
    python benchmarks/fuzz_exporter.py --seed 57 --count 1 -v   # one again, and what it is made of

Every seed makes one network, the same on every run: even ones are causal by construction, odd ones have one leak. What
is exported is replayed by the reference interpreter in float64 and, every third time, through the written graphs, by
turns with plain row graphs and with Winograd's form wherever there is one; a leak that the network itself shows must be
refused. Exit code 1 when anything is wrong.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the networks stand among the tests

from pixelsnail_infer.export.analysis.row_forms import PLAIN, WINOGRAD
from tests.export.fuzz.causal import Case, causal
from tests.export.fuzz.choices import seeded
from tests.export.fuzz.judge import Verdict, allowed, judge
from tests.export.fuzz.leaks import leaking

KINDS = ("causal", "leaking, seen", "leaking, not seen")


def run(seed: int, graphs: int) -> tuple[Case, Verdict]:
    """The network of one seed and what came of it; an exception that is no refusal is wrong, too."""
    torch.manual_seed(seed)
    case = (leaking if seed % 2 else causal)(seeded(seed))
    try:
        turn, rest = divmod(seed // 2, graphs or 1)
        verdict = judge(case, graphs > 0 and rest == 0, (PLAIN, WINOGRAD)[turn % 2])
    except Exception:
        return case, Verdict("wrong", traceback.format_exc(limit=-3))
    if not allowed(case, verdict):
        return case, Verdict("wrong", f"refused, but not for its leak: {verdict.why}", verdict.error, True)
    return case, verdict


def kind(case: Case, verdict: Verdict) -> str:
    return "causal" if case.leak is None else "leaking, seen" if verdict.seen else "leaking, not seen"


def reason(verdict: Verdict) -> str:
    """The error without what differs from network to network."""
    text = re.sub(r"module 'layers\.\d+([\w.]*)'", r"module '…\1'", verdict.why)
    text = re.sub(r"\([\w.]+\.py:\d+\)", "(…)", text)
    return f"{verdict.error.__name__ if verdict.error else ''}: {re.sub(r'[+-]?[0-9]+', '#', text)[:100]}"


def summary(results: Counter[tuple[str, str]], reasons: Counter[tuple[str, str]]) -> str:
    """How many of which kind were exported, refused and wrong, and why those were refused."""
    lines = [f"{'':<20}{'networks':>10}{'exported':>10}{'refused':>10}{'wrong':>10}"]
    for name in KINDS:
        counts = [results[name, outcome] for outcome in ("exported", "refused", "wrong")]
        lines.append(f"{name:<20}{sum(counts):>10}" + "".join(f"{count:>10}" for count in counts))
    for name in KINDS:
        lines += [f"refused, {name}"] if any(key[0] == name for key in reasons) else []
        lines += [f"{count:>6}  {why}" for (which, why), count in reasons.most_common() if which == name]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--graphs", type=int, default=3, metavar="N",
                        help="every Nth also through the written graphs and ONNX Runtime; 0: none")
    parser.add_argument("-v", "--verbose", action="store_true", help="print every network")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results: Counter[tuple[str, str]] = Counter()
    reasons: Counter[tuple[str, str]] = Counter()
    started = time.monotonic()
    for number, seed in enumerate(range(args.seed, args.seed + args.count), 1):
        case, verdict = run(seed, args.graphs)
        results[kind(case, verdict), verdict.outcome] += 1
        if verdict.outcome == "refused":
            reasons[kind(case, verdict), reason(verdict)] += 1
        if args.verbose or verdict.outcome == "wrong":
            print(f"seed {seed}: {verdict.outcome} {verdict.why}\n  " + "\n  ".join(case.text), flush=True)
        if number % 250 == 0:
            print(f"[{time.monotonic() - started:6.0f} s] {number} of {args.count}", file=sys.stderr, flush=True)
    print(f"seeds {args.seed} to {args.seed + args.count - 1}\n{summary(results, reasons)}")
    return int(any(outcome == "wrong" for _, outcome in results))


if __name__ == "__main__":
    sys.exit(main())
