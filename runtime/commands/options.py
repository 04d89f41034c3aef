"""Options that several commands share, and the types of their arguments."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pixelsnail_infer.commandline import integer
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.backends import BACKENDS, is_device
from pixelsnail_infer.runtime.commands.labels import parse_condition, parse_labels
from pixelsnail_infer.runtime.commands.outputs import parse_output
from pixelsnail_infer.wave import SCHEDULES

__all__ = [
    "add_choice", "add_conditions", "add_engine", "add_grid", "add_model", "add_output", "add_schedule", "add_stages",
    "array_files",
    "checked", "output", "whole",
]  # fmt: skip

T = TypeVar("T")


def add_model(parser: argparse.ArgumentParser) -> None:
    """The positional `model`."""
    parser.add_argument("model", metavar="OUT.onnx", help="the step file of an export, or its archive, OUT.pt")


def add_conditions(parser: argparse.ArgumentParser, every: str = "") -> None:
    """`--label` and `--condition`. The word `every`, if there is one, is a label, too, and stays as it is."""

    def labels(text: str) -> list[int] | str:
        return every if every and text == every else parse_labels(text)

    more = f"{every}, " if every else ""
    parser.add_argument(
        "--label", type=checked(labels), help=f"class labels: {more}3, 0-9 or 0,1,5-7; cycled over the images"
    )
    parser.add_argument(
        "--condition", type=checked(parse_condition), action="append", default=[], metavar="NAME=VALUE",
        help="any condition: NAME=FILE.npy, or a list of classes or numbers; may be repeated",
    )  # fmt: skip


def add_stages(parser: argparse.ArgumentParser) -> None:
    """`--link`, and the settings of a draw that may differ from prior to prior."""
    parser.add_argument(
        "--link", type=checked(_link), action="append", default=[], metavar="STAGE.NAME=STAGE",
        help="which earlier prior, from 0, feeds a condition of codes (none: --condition does); may be repeated",
    )  # fmt: skip
    parser.add_argument("--seed", type=whole(0), default=0, help="integer from 0 to 2^64 - 1 (default 0)")
    parser.add_argument(
        "--temperature", type=checked(_each(float)), default=1.0, help="0 takes the most probable (default 1)"
    )
    parser.add_argument("--top-k", type=checked(_each(integer)), help="draw from the k most probable codes only")
    parser.add_argument(
        "--top-p", type=checked(_each(float)), help="draw from the most probable codes that hold this mass, 0 < p ≤ 1"
    )


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


def add_schedule(parser: argparse.ArgumentParser) -> None:
    """`--schedule`."""
    parser.add_argument(
        "--schedule", choices=SCHEDULES, default="auto",
        help="raster: row by row; wavefront: a pixel of many rows at a time, of exports that have it; the pixels are "
        "the same (default auto: what is quicker)",
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


def _each(number: Callable[[str], Any]) -> Callable[[str], Any]:
    """One number, or a list with commas between, of which `off` is None."""

    def parse(text: str) -> Any:
        items = [None if item.strip() == "off" else number(item) for item in text.split(",")]
        return items if len(items) > 1 else items[0]

    return parse


def _link(text: str) -> tuple[tuple[int, str], int | None]:
    place, _, source = text.partition("=")
    stage, _, name = place.partition(".")
    if not (stage.isdecimal() and name and (source.isdecimal() or source == "none")):
        raise ValueError(f"{shown(text)} is not STAGE.NAME=STAGE; write for example 2.condition=0, or 2.condition=none")
    return (integer(stage), name), None if source == "none" else integer(source)
