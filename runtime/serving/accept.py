"""The header Accept: which of several media types a client likes best."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["preferred"]

_MOST = 32  # entries that are read


def preferred(accept: str, offered: Sequence[str]) -> str | None:
    """The best of `offered`, or None if there is none. What an entry says of `image/png` counts before what one says of
    `image/*`, and that before `*/*`; between equal weights the entry that names more wins, then the one that comes
    first, then the order of `offered`. Without entries everything is as good."""
    entries = [_entry(item) for item in accept.split(",")[:_MOST] if item.strip()] or [("*/*", 1.0)]
    best: tuple[tuple[float, int, int], str] | None = None
    for media in offered:
        ranges = (media, f"{media.partition('/')[0]}/*", "*/*")
        found = [(-ranges.index(named), -place, weight) for place, (named, weight) in enumerate(entries)
                 if named in ranges]  # fmt: skip
        if not found:
            continue
        exact, place, weight = max(found)
        if weight > 0 and (best is None or (weight, exact, place) > best[0]):
            best = (weight, exact, place), media
    return None if best is None else best[1]


def _entry(text: str) -> tuple[str, float]:
    """A media range and its weight; one that cannot be read counts as 0."""
    media, *parameters = (part.strip().lower() for part in text.split(";"))
    return media, next((_weight(part[2:]) for part in parameters if part.startswith("q=")), 1.0)


def _weight(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 0.0
