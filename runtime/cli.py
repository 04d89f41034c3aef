"""The commands of the runtime: each a parser and a function that returns an exit code."""

from __future__ import annotations

import argparse

from pixelsnail_infer.runtime.generate_command import add_generate
from pixelsnail_infer.runtime.options import RAW, add_model
from pixelsnail_infer.runtime.report import describe_files
from pixelsnail_infer.runtime.sample_command import add_sample
from pixelsnail_infer.runtime.score_command import add_score

_INFO_HELP = """\
What is in an export: model, shapes, conditions, states and their memory, files and whether they are intact.

  pixelsnail-infer info digits.onnx
  pixelsnail-infer info digits.onnx --json > manifest.json"""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add every command; each sets `run`, a function of the parsed arguments that returns an exit code."""
    add_sample(commands)
    add_generate(commands)
    add_score(commands)
    info = commands.add_parser("info", help="what is in an export", description=_INFO_HELP, formatter_class=RAW)
    add_model(info)
    info.add_argument("--json", action="store_true", help="print the manifest as JSON and nothing else")
    info.set_defaults(run=run_info)


def run_info(args: argparse.Namespace) -> int:
    """Print the description of an export; 1 when one of its files is missing or altered."""
    text, intact = describe_files(args.model, json=args.json)
    print(text)
    return 0 if intact else 1
