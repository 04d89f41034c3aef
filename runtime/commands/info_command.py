"""The command `info`: what is in an export."""

from __future__ import annotations

import argparse
import json

from pixelsnail_infer.commandline import ArgumentParser
from pixelsnail_infer.runtime.commands.options import add_model
from pixelsnail_infer.runtime.commands.report import describe_files

_HELP = """\
What is in an export: model, shapes, conditions, states and their memory, files and whether they are intact.

  pixelsnail-infer info digits.onnx
  pixelsnail-infer info digits.onnx --json > manifest.json"""


def add_info(commands: argparse._SubParsersAction[ArgumentParser]) -> None:
    """Add the command; `run` of what it parses returns an exit code."""
    parser = commands.add_parser("info", help="what is in an export", description=_HELP)
    add_model(parser)
    parser.add_argument("--json", action="store_true", help="print the manifest as JSON and nothing else")
    parser.set_defaults(run=run_info)


def run_info(args: argparse.Namespace) -> int:
    """Print the description of an export; 1 when one of its files is missing or altered."""
    text, intact = describe_files(args.model, json=args.json)
    print(json.dumps(json.loads(text)) if args.json else text)  # in ASCII, which every terminal and pipe takes
    return 0 if intact else 1
