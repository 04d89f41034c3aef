"""JSON of requests, read strictly: no doubled keys, no numbers beyond JSON, and errors that say where."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.serving.problem import Problem

__all__ = ["read_object"]

_MOST_DIGITS = 20  # of an integer: seeds go to 2^64 - 1


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body. Raises `Problem` "malformed"."""
    try:
        document = json.loads(
            body.decode(), object_pairs_hook=_pairs, parse_constant=_constant, parse_int=_integer, parse_float=_real
        )
    except RecursionError as error:
        raise Problem("malformed", "The body is nested too deep; expected a JSON object.") from error
    except ValueError as error:  # no UTF-8 among them
        raise Problem("malformed", f"The body is not valid JSON ({error}).") from error
    if not isinstance(document, dict):
        raise Problem("malformed", f"The body is {shown(document)}, expected a JSON object.")
    return document


def _pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in items:
        if name in made:
            raise ValueError(f"the key {shown(name)} occurs twice")
        made[name] = value
    return made


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"an integer has {len(digits)} digits")
    return int(digits)


def _real(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:40]} is beyond a number of 64 bits")
    return number
