"""Checks of the manifest's values: each returns nothing, or raises `ManifestError` saying what came and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pixelsnail_infer.errors import ManifestError

__all__ = ["EXPORT_AGAIN", "among", "at_least", "prefix", "sha256", "sizes"]

EXPORT_AGAIN = "export the checkpoint again with this version of pixelsnail-infer"


def among(value: object, allowed: tuple[Any, ...], where: str) -> None:
    """`value` is one of `allowed`."""
    if value not in allowed:
        what = f"{where} is {value!r}, but this version knows only {_names(allowed)}"
        raise ManifestError(f"{what}; use the pixelsnail-infer that wrote it, or {EXPORT_AGAIN}.")


def at_least(value: int, low: int, where: str) -> None:
    """`value` is at least `low`."""
    if value < low:
        raise ManifestError(f"{where} is {value!r}, expected an integer of at least {low}; {EXPORT_AGAIN}.")


def sizes(shape: tuple[int, ...], rank: int | None, where: str) -> None:
    """`shape` holds positive sizes, `rank` of them where given."""
    if (rank is not None and len(shape) != rank) or any(size < 1 for size in shape):
        dims = "" if rank is None else f" with {rank} entries"
        raise ManifestError(f"{where} is {list(shape)}, expected positive sizes{dims}; {EXPORT_AGAIN}.")


def prefix(name: str, prefix: str) -> None:
    """A tensor name: `prefix`, then something, and not the name of an output."""
    if not name.startswith(prefix) or len(name) == len(prefix) or name.endswith(".out"):
        raise ManifestError(f"A tensor is named {name!r}, expected a name like {prefix}<name>; {EXPORT_AGAIN}.")


def sha256(text: str, where: str) -> None:
    """64 lower-case hexadecimal digits."""
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise ManifestError(f"{where} is {text!r}, expected 64 lower-case hexadecimal digits; {EXPORT_AGAIN}.")


def _names(names: Iterable[object]) -> str:
    return ", ".join(map(repr, names))
