"""Text for messages: on one line, not too long, and without characters that a terminal would obey."""

from __future__ import annotations

import reprlib

__all__ = ["one_line", "printable", "shown"]

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlist = _SHORT.maxtuple = 8


def one_line(text: object, limit: int = 1000) -> str:
    """`text` on one line; of one longer than about `limit` characters the beginning and the end."""
    words = " ".join(str(text).split())
    if len(words) > limit:
        words = f"{words[: limit * 2 // 3]} … {words[-(limit // 3) :]}"
    return printable(words)


def printable(text: str, keep: str = "") -> str:
    """`text` with an escape in place of every character that is not printable and not in `keep`: control characters,
    and what stands for the bytes of a path that are no UTF-8."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escaped(c) for c in text)


def shown(value: object) -> str:
    """`value` as messages show it, in Python's spelling, shortened; `repr` alone raises for integers of thousands of
    digits, and takes long for large lists."""
    try:
        return _SHORT.repr(value)
    except ValueError:
        return f"{type(value).__name__} of too many digits"


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
