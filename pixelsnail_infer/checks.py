"""Checks of the manifest's values: each returns nothing, or raises `ManifestError` saying what came and what to do."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from pixelsnail_infer.errors import ManifestError
from pixelsnail_infer.messages import shown

__all__ = ["EXPORT_AGAIN", "MOST_BYTES", "MOST_LEVELS", "among", "at_least", "prefix", "sha256", "sizes"]

EXPORT_AGAIN = "export the checkpoint again with this version of pixelsnail-infer"

MOST_LEVELS = 1 << 20
"""Of a code book, or classes."""
MOST_BYTES = 1 << 62
"""Of what is only counted."""
_MOST = (1 << 31) - 1
_MOST_NUMBERS = 1 << 34  # in one tensor of one image: all sums of bytes stay far below 64 bits
_MOST_AXES = 8
_NAME = re.compile(r"[\w.:/-]{1,120}", re.ASCII)


def among(value: object, allowed: tuple[Any, ...], where: str) -> None:
    """`value` is one of `allowed`."""
    if value not in allowed:
        what = f"{where} is {shown(value)}, but this version knows only {_names(allowed)}"
        raise ManifestError(f"{what}; use the pixelsnail-infer that wrote it, or {EXPORT_AGAIN}.")


def at_least(value: int, low: int, where: str, most: int = _MOST) -> None:
    """`value` is at least `low`, and at most `most`."""
    if not low <= value <= most:
        limit = f"at least {low}" if value < low else f"at most {most}"
        raise ManifestError(f"{where} is {shown(value)}, expected an integer of {limit}; {EXPORT_AGAIN}.")


def sizes(shape: tuple[int, ...], rank: int | None, where: str) -> None:
    """`shape` holds positive sizes, `rank` of them where given, and not too many numbers for any machine."""
    if (rank is not None and len(shape) != rank) or any(size < 1 for size in shape):
        dims = "" if rank is None else f" with {rank} entries"
        raise ManifestError(f"{where} is {shown(list(shape))}, expected positive sizes{dims}; {EXPORT_AGAIN}.")
    if len(shape) > _MOST_AXES or math.prod(shape) > _MOST_NUMBERS:
        what = f"{where} is {shown(list(shape))}, expected {_MOST_AXES} sizes and {_MOST_NUMBERS} numbers at most"
        raise ManifestError(f"{what}; {EXPORT_AGAIN}.")


def prefix(name: str, prefix: str) -> None:
    """A tensor name: `prefix`, then something, and not the name of an output."""
    if not name.startswith(prefix) or not _NAME.fullmatch(name[len(prefix) :]) or name.endswith(".out"):
        raise ManifestError(f"A tensor is named {shown(name)}, expected a name like {prefix}<name>; {EXPORT_AGAIN}.")


def sha256(text: str, where: str) -> None:
    """64 lower-case hexadecimal digits."""
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise ManifestError(f"{where} is {shown(text)}, expected 64 lower-case hexadecimal digits; {EXPORT_AGAIN}.")


def _names(names: Iterable[object]) -> str:
    return ", ".join(map(repr, names))
