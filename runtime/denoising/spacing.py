"""Which of the steps of a diffusion are taken: "250", "ddim50", "10,10,20", 250, or [10, 10, 20]."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import shown

__all__ = ["Steps", "spaced"]

Steps = int | str | Sequence[int]
STRIDE = "ddim"
EXPECTED = "a number of steps, 'ddimN' for N steps of one stride, or steps of equal sections such as '10,10,20'"
_DIGITS = 9


def spaced(steps: Steps | None, total: int) -> tuple[int, ...]:
    """The steps of 0 … total - 1 that are taken, rising; all of them where `steps` is None or empty.

    `N` spreads N steps evenly from the first to the last; a list does so in each of as many equal sections. "ddimN"
    takes every k-th step from the first on, for the smallest k that gives N (Song et al., 2020). Both are as in
    openai/improved-diffusion. Raises `RequestError`.
    """
    if steps is None or steps == "":
        return tuple(range(total))
    if isinstance(steps, str) and steps.startswith(STRIDE):
        return _strided(_number(steps[len(STRIDE) :], steps), total)
    return _sections(_counts(steps), total)


def _strided(count: int, total: int) -> tuple[int, ...]:
    for stride in range(1, total + 1):
        if len(range(0, total, stride)) == count:
            return tuple(range(0, total, stride))
    raise RequestError(f"steps is 'ddim{count}', but no stride takes {count} of {total} steps; choose another number, "
                       f"or {count} without 'ddim'.")  # fmt: skip


def _sections(counts: tuple[int, ...], total: int) -> tuple[int, ...]:
    each, more = divmod(total, len(counts))
    taken, start = list[int](), 0
    for place, count in enumerate(counts):
        size = each + (place < more)
        if count > size:
            raise RequestError(f"steps asks for {count} of a section of {size} steps; ask for {size} at most.")
        stride = (size - 1) / (count - 1) if count > 1 else 1.0
        at = 0.0
        for _ in range(count):
            taken.append(start + round(at))
            at += stride
        start += size
    return tuple(sorted(set(taken)))


def _counts(steps: object) -> tuple[int, ...]:
    if isinstance(steps, str):
        return tuple(_number(part.strip(), steps) for part in steps.split(","))
    parts: Sequence[Any] = steps if isinstance(steps, Sequence) else [steps]
    try:
        counts = tuple(operator.index(part) for part in parts)
    except TypeError:
        counts = ()
    if not counts or any(count < 1 for count in counts) or isinstance(steps, bool):
        raise RequestError(f"steps is {shown(steps)}, expected {EXPECTED}.")
    return counts


def _number(text: str, steps: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS and int(text) > 0):
        raise RequestError(f"steps is {shown(steps)}, expected {EXPECTED}.")
    return int(text)
