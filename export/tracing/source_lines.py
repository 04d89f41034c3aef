"""Which line of the user's code is meant: the innermost that belongs neither to PyTorch nor to the exporter."""

from __future__ import annotations

import functools
import os
import sysconfig
from collections.abc import Iterable
from types import FrameType
from typing import Any

import torch

__all__ = ["caller_line", "error_line"]

TORCH = os.path.dirname(torch.__file__) + os.sep
HERE = os.path.dirname(__file__) + os.sep
STANDARD = os.path.dirname(os.__file__) + os.sep
INSTALLED = tuple(os.path.join(sysconfig.get_paths()[name], "") for name in ("purelib", "platlib"))
OWN, OTHER, NOBODY, EXPORTER = range(4)


def caller_line(frame: FrameType) -> str:
    """`file:line` of the code that called into PyTorch, from the stack above the exporter's `frame`."""
    places = []
    current: FrameType | None = frame
    while current is not None and _kind(current.f_code.co_filename) == EXPORTER:
        current = current.f_back
    while current is not None and _kind(current.f_code.co_filename) != EXPORTER:
        places.append((current.f_code.co_filename, current.f_lineno))
        current = current.f_back
    return _first(places) or "unknown line"


def error_line(error: BaseException) -> str | None:
    """`file:line` of the innermost line of other people's code that raised `error`; None where there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{os.path.basename(error.filename)}:{error.lineno}"
    places = []
    trace: Any = error.__traceback__
    while trace is not None:
        places.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    return _first(reversed(places))


def _first(places: Iterable[tuple[str, int]]) -> str | None:
    """The first place in a file that was not installed, else the first that is not PyTorch's or Python's own."""
    found = [place for place in places if _kind(place[0]) in (OWN, OTHER)]
    own = [place for place in found if _kind(place[0]) == OWN]
    return next((f"{os.path.basename(name)}:{line}" for name, line in own + found), None)


@functools.cache
def _kind(file: str) -> int:
    if file.startswith(HERE):
        return EXPORTER
    if file.startswith((TORCH, "<frozen", "<string>", "<eval_with_key>")):
        return NOBODY
    if file.startswith(INSTALLED):
        return OTHER
    return NOBODY if file.startswith(STANDARD) else OWN
