"""Options that several commands share, and the types of their arguments."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pixelsnail_infer.commandline import integer
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.backends import BACKENDS, is_device
from pixelsnail_infer.runtime.commands.labels import parse_condition, parse_labels
from pixelsnail_infer.runtime.commands.outputs import parse_output

__all__ = [
    "add_choice", "add_conditions", "add_engine", "add_grid", "add_model", "add_output", "array_files", "checked",
    "output", "whole",
]  # fmt: skip

T = TypeVar("T")


def add_model(parser: argparse.ArgumentParser) -> None:
    """The positional `model`."""
    parser.add_argument("model", metavar="OUT.onnx", help="the step file of an export, or its archive, OUT.pt")


def add_conditions(parser: argparse.ArgumentParser) -> None:
    """`--label` and `--condition`."""
    parser.add_argument(
        "--label", type=checked(parse_labels), help="class labels: 3, 0-9 or 0,1,5-7; cycled over the images"
    )
    parser.add_argument(
        "--condition", type=checked(parse_condition), action="append", default=[], metavar="NAME=VALUE",
        help="any condition: NAME=FILE.npy, or a list of classes or numbers; may be repeated",
    )  # fmt: skip


def add_grid(parser: argparse.ArgumentParser) -> None:
    """`--columns` and `--scale` of pictures."""
    parser.add_argument("--columns", type=whole(1), help="columns of a grid (default: one per label)")
    parser.add_argument("--scale", type=whole(1), help="enlarge pixels so many times (default: 1, or grids of ~64)")


def add_engine(parser: argparse.ArgumentParser, batch_help: str, each: bool = False) -> None:
    """`--max-batch` and `--threads`, and where the graphs run."""
    parser.add_argument("--max-batch", type=whole(1), help=batch_help)
    parser.add_argument("--threads", type=whole(1), help="threads of the engine (default: one per core)")
    add_choice(parser, each=each)


def add_choice(parser: argparse.ArgumentParser, each: bool = False) -> None:
    """`--device` and `--backend`, which every command has that runs a model. With `each`, one for all files, or a list
    of one for each."""
    more = "; or one for each file, with commas between, --encoder's last" if each else ""
    parser.add_argument(
        "--device", type=checked(_one_or_each(_device, each)), default="cpu", metavar="DEVICE",
        help=f"where the graphs run, and nowhere else: cpu, cuda, cuda:1, … (default cpu){more}",
    )  # fmt: skip
    parser.add_argument(
        "--backend", type=checked(_one_or_each(_backend, each)), default="auto", metavar="BACKEND",
        help=f"the engine: {', '.join(BACKENDS)}, or auto, what runs the file (default auto){more}",
    )  # fmt: skip


def _one_or_each(parse: Callable[[str], str], each: bool) -> Callable[[str], str | list[str]]:
    return lambda text: [parse(one) for one in text.split(",")] if each and "," in text else parse(text)


def _device(text: str) -> str:
    if not is_device(text):
        raise ValueError(f"{shown(text)} is no device, expected cpu, cuda, cuda:1, cuda:2, …")
    return text


def _backend(text: str) -> str:
    if text not in (known := ("auto", *BACKENDS)):
        raise ValueError(f"{shown(text)} is no backend, expected {', '.join(known)}")
    return text


def add_output(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """`-o` of what is drawn."""
    parser.add_argument(
        "-o", "--output", required=required, type=checked(parse_output),
        help="a .png or .npy of all images, or one for each: a name with {index}, {seed}, {label}, or a folder, as in "
        "out/",
    )  # fmt: skip


def array_files(args: argparse.Namespace) -> list[str]:
    """The files that `--condition` names."""
    return [value for _, value in args.condition if value.endswith(".npy")]


def checked(parse: Callable[[str], T]) -> Callable[[str], T]:
    """An argparse type whose error message is the parser's own."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except (ValueError, RequestError) as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


def whole(low: int) -> Callable[[str], int]:
    """The type of an integer of at least `low`."""
    return functools.partial(integer, low=low)


def output(*suffixes: str, dash: bool = False) -> Callable[[str], Path]:
    """The type of a file to write that ends in one of `suffixes`; with `dash`, `-` stands for the standard output."""

    def parse(text: str) -> Path:
        if (path := Path(text)).suffix not in suffixes and not (dash and text == "-"):
            raise ValueError(f"{shown(text)} should end in {' or '.join(suffixes)}")
        return path

    return checked(parse)
