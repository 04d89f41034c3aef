"""Options on the command line and in docstrings, both made of the dataclasses that hold them."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import Field, fields
from typing import Any, TypeVar

from pixelsnail_infer.checkpoints.option import averages, flag, option_of, switch
from pixelsnail_infer.checkpoints.options import CODEC
from pixelsnail_infer.export.source.options import OWN, SourceOptions

__all__ = ["add_options", "given_options", "with_options"]

F = TypeVar("F", bound=Callable[..., Any])
WIDTH, INDENT = 116, " " * 8
ABOUT = {
    CODEC: "--shape is the image's; default 256x256, 80x344 for log-mel spectrograms",
    OWN: "Its class is imported from your file, which runs it; the checkpoint is still loaded without running anything",
}


def add_options(parser: argparse.ArgumentParser, kind: type[SourceOptions]) -> None:
    """Every option of `kind`, in groups."""
    for title, places in _grouped(kind):
        group = parser.add_argument_group(title, ABOUT.get(title))
        for place in places:
            group.add_argument(flag(place.name), dest=place.name, default=place.default, help=option_of(place).meaning,
                               **_action(place))


def given_options(args: argparse.Namespace, kind: type[SourceOptions]) -> dict[str, Any]:
    """The parsed options by name, as Python's calls take them."""
    return {place.name: getattr(args, place.name) for place in fields(kind)}


def with_options(kind: type[SourceOptions]) -> Callable[[F], F]:
    """A call that takes the options of `kind`: its docstring ends with their list."""
    def extended(call: F) -> F:
        call.__doc__ = "\n".join([*(call.__doc__ or "").rstrip().splitlines(), *_listed(kind), ""])
        return call
    return extended


def _grouped(kind: type[SourceOptions]) -> Iterator[tuple[str, list[Field[Any]]]]:
    titles = dict.fromkeys(option_of(place).group for place in fields(kind))
    for title in titles:
        yield title, [place for place in fields(kind) if option_of(place).group == title]


def _action(place: Field[Any]) -> dict[str, Any]:
    found = option_of(place)
    if found.read is switch:
        return {"action": "store_true"}
    more: dict[str, Any] = {"metavar": found.metavar} if found.metavar else {}
    if found.read is averages:
        more |= {"nargs": "?", "const": True}
    if found.choices:
        more["choices"] = found.choices
    if found.many:
        more["action"] = "append"
    return {**more, "type": int} if str(place.type).startswith("int") else more


def _listed(kind: type[SourceOptions]) -> Iterator[str]:
    """Every option with its type, default and meaning."""
    for title, places in _grouped(kind):
        yield f"\n    {title[0].upper()}{title[1:]}:"
        for place in places:
            yield f"      {place.name}: {place.type} = {place.default!r}"
            yield textwrap.fill(option_of(place).meaning, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
