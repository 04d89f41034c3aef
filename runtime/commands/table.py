"""The commands of the runtime: each a parser and a function that returns an exit code."""

from __future__ import annotations

import argparse

from pixelsnail_infer.commandline import ArgumentParser
from pixelsnail_infer.runtime.commands.bench_command import add_bench
from pixelsnail_infer.runtime.commands.build_command import add_build
from pixelsnail_infer.runtime.commands.bulk_command import add_bulk
from pixelsnail_infer.runtime.commands.doctor_command import add_doctor
from pixelsnail_infer.runtime.commands.generate_command import add_generate
from pixelsnail_infer.runtime.commands.info_command import add_info
from pixelsnail_infer.runtime.commands.sample_command import add_sample
from pixelsnail_infer.runtime.commands.score_command import add_score
from pixelsnail_infer.runtime.commands.serve_command import add_serve


def add_commands(commands: argparse._SubParsersAction[ArgumentParser]) -> None:
    """Add every command; each sets `run`, a function of the parsed arguments that returns an exit code."""
    for add in (add_sample, add_generate, add_score, add_bulk, add_serve, add_info, add_bench, add_build, add_doctor):
        add(commands)
