"""One option: its default, what it means, and how a value of it is read. It stands in a dataclass of options, once.

The command line, the arguments of Python's calls and their docstrings are all made of it.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any, SupportsIndex, TypeVar

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import one_line

__all__ = ["Option", "averages", "canvas", "flag", "given", "option", "option_of", "path",
           "read_options", "sizes_of", "switch", "text", "whole", "yes_or_no"]  # fmt: skip

T = TypeVar("T")
Read = Callable[[Any], Any]
"""Makes an option's value of what was given, or raises `ValueError` with what was expected."""


def text(value: object) -> str:
    """Text as it is."""
    if not isinstance(value, str):
        raise ValueError("text")
    return value


def path(value: object) -> str:
    """The path of a file."""
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError("the path of a file")
    return os.fsdecode(value)


def averages(value: object) -> bool | str:
    """Whether averages are asked for, or the path of the file that holds them."""
    return value if isinstance(value, bool) else path(value)


def whole(value: object) -> int:
    """An integer."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise ValueError("an integer")
    return value.__index__()


def switch(value: object) -> bool:
    """On or off."""
    if not isinstance(value, bool):
        raise ValueError("True or False")
    return value


def yes_or_no(value: object) -> bool:
    """On or off, which differs from an option that was not given."""
    if isinstance(value, str) and value in ("yes", "no"):
        return value == "yes"
    if not isinstance(value, bool):
        raise ValueError("True or False (yes or no)")
    return value


def canvas(value: object) -> tuple[int, int]:
    """(H, W), also as text: 32x32."""
    sizes = sizes_of(value, 2)
    if sizes is None:
        raise ValueError("rows x columns such as 32x32")
    return sizes[0], sizes[1]


def sizes_of(value: object, count: int) -> tuple[int, ...] | None:
    """`count` positive integers, in a sequence or joined by x, such as 32x32; None where `value` is anything else."""
    parts = value.lower().split("x") if isinstance(value, str) else value
    if not isinstance(parts, Sequence) or len(parts) != count:
        return None
    sizes = tuple(_size(part) for part in parts)
    return sizes if all(sizes) else None


def _size(part: object) -> int:
    """A positive integer below 2**31; 0 for anything else."""
    if isinstance(part, str) and part.isascii() and part.isdecimal() and len(part) < 11:
        part = int(part)
    number = part.__index__() if isinstance(part, SupportsIndex) and not isinstance(part, bool) else 0
    return number if 0 < number < 1 << 31 else 0


@dataclass(frozen=True, slots=True)
class Option:
    """What is known of an option beside its name, its type and its default."""

    meaning: str
    group: str
    read: Read
    families: tuple[str, ...]
    """The only families that it concerns; none: every one."""
    choices: tuple[str, ...]
    """The only words that the command line takes."""
    metavar: str | None
    many: bool
    """Whether the command line takes it several times."""


def option(default: Any, meaning: str, group: str, read: Read = text, *, families: tuple[str, ...] = (),
           choices: tuple[str, ...] = (), metavar: str | None = None, many: bool = False) -> Any:
    """A dataclass field that is an option. Its value is one of the `choices` if there are any and nothing reads it."""
    if choices and read is text:
        read = _one_of(choices)
    return field(default=default, metadata={"option": Option(meaning, group, read, families, choices, metavar, many)})


def option_of(place: Field[Any]) -> Option:
    """What `option` said of a field."""
    found: Option = place.metadata["option"]
    return found


def flag(name: str) -> str:
    """The option as the command line and every message spell it."""
    return "--" + name.replace("_", "-")


def given(options: Any, name: str) -> bool:
    """Whether an option was given a value other than its default."""
    (place,) = (place for place in fields(options) if place.name == name)
    return bool(getattr(options, name) != place.default)


def read_options(kind: Callable[..., T], values: Mapping[str, object], call: str) -> T:
    """Options of the dataclass `kind` from what was given by name; None where None is the default counts as not given.

    Raises `RequestError` for a name that is none of the options, or a value that cannot be read.
    """
    known: dict[str, Field[Any]] = {place.name: place for place in fields(kind)}  # type: ignore[arg-type]
    read: dict[str, object] = {}
    for name, value in values.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}."
            raise RequestError(f"{name!r} is no option of {call}; {advice}")
        if value is None and known[name].default is None:
            continue
        try:
            read[name] = option_of(known[name]).read(value)
        except ValueError as error:
            if isinstance(error, RequestError):
                raise
            raise RequestError(f"{flag(name)} is {one_line(repr(value), 80)}, expected {error}.") from None
    return kind(**read)


def _one_of(choices: tuple[str, ...]) -> Read:
    def read(value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(" or ".join(map(repr, choices)))
        return value

    return read
