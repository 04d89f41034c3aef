"""The command `doctor`: which engines and devices are here, and whether they work."""

from __future__ import annotations

import argparse
import json
import sys

from pixelsnail_infer.commandline import ArgumentParser
from pixelsnail_infer.runtime.doctor.examination import examine
from pixelsnail_infer.runtime.doctor.words import in_words

_HELP = """\
Which engines, versions and devices are here, what is missing and how to get it. Every engine is tried on every device
that it has: it draws a few images of a tiny model that comes with this package, whose codes are known.

  pixelsnail-infer doctor
  pixelsnail-infer doctor --json > doctor.json

Exit codes: 0 all that is installed works, 1 something does not, or nothing is installed that can run a model."""


def add_doctor(commands: argparse._SubParsersAction[ArgumentParser]) -> None:
    """Add the command; `run` of what it parses returns an exit code."""
    parser = commands.add_parser("doctor", help="which engines and devices work here", description=_HELP)
    parser.add_argument("--json", action="store_true", help="print what was found as JSON and nothing else")
    parser.set_defaults(run=run_doctor)


def run_doctor(args: argparse.Namespace) -> int:
    """Examine, and print what was found; 1 when something does not work."""
    findings = examine(lambda line: None if args.json else print(line, file=sys.stderr, flush=True))
    print(json.dumps(findings.to_json(), indent=2) if args.json else in_words(findings))
    return 0 if findings.healthy else 1
