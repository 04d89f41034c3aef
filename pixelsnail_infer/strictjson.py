"""Strict reading of JSON, and of frozen dataclasses in it: no unknown, missing, doubled or mistyped key passes."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

from pixelsnail_infer.messages import shown

T = TypeVar("T")
_MOST_CHARACTERS = 1 << 22  # of a document; manifests have some thousands
_DEEPEST = 64
_MOST_DIGITS = 20  # of an integer: more cannot fit 64 bits
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, halves of characters
_WORDS = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


def read_json(text: str) -> Any:
    """The value that a JSON text holds. Raises `ValueError` also for doubled keys, for numbers beyond JSON or 64 bits,
    and where it is nested deeper than Python can read."""
    try:
        return json.loads(text, object_pairs_hook=_pairs, parse_constant=_constant, parse_int=_integer,
                          parse_float=_real)  # fmt: skip
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def parse_object(text: str, where: str, error: type[Exception]) -> dict[str, Any]:
    """Read one JSON object of a file. What `read_json` or `expect_plain` refuses is refused with `error`."""
    try:
        if len(text) > _MOST_CHARACTERS:
            raise ValueError(f"it has {len(text)} characters, more than {_MOST_CHARACTERS}")
        document = read_json(text)
        expect_plain(document)
    except ValueError as problem:
        raise error(f"The {where} is not valid JSON ({problem}); the file is damaged or was edited.") from problem
    if not isinstance(document, dict):
        raise error(f"The {where} is {_kind(document)}, expected a JSON object; the file is damaged.")
    return document


def expect_plain(document: Any) -> None:
    """Raise `ValueError` for integers beyond 64 bits, numbers that are not finite, control characters and halves of
    characters in strings, and lists and objects nested more than 64 deep. Other types are passed over."""
    waiting = [(document, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")
        if isinstance(value, Mapping):
            waiting += ((held, depth + 1) for pair in value.items() for held in pair)
        elif isinstance(value, (list, tuple)):
            waiting += ((held, depth + 1) for held in value)
        elif isinstance(value, str) and _UNPRINTABLE.search(value):
            raise ValueError(f"the string {shown(value)} holds a control character or half a character")
        elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            raise ValueError("an integer is beyond 64 bits")
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError("a number is not finite")


def decode(cls: type[T], value: Any, where: str, error: type[Exception], advice: str) -> T:
    """Make a `cls` (a dataclass) of the JSON object `value`, or raise `error` naming the place."""
    return typing.cast(T, _decode(cls, value, where, lambda what: error(f"{what}; {advice}.")))


def encode(value: Any) -> Any:
    """The JSON form of dataclasses, tuples and dicts; a field that is None and has that default is left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = ((item, getattr(value, item.name)) for item in dataclasses.fields(value))
        return {item.name: encode(held) for item, held in items if not (held is None and item.default is None)}
    if isinstance(value, dict):
        return {key: encode(held) for key, held in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(held) for held in value]
    return value


def _decode(hint: Any, value: Any, where: str, fail: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return _decode_object(hint, value, where, fail)
    if origin is types.UnionType:  # X | None
        return None if value is None else _decode(arguments[0], value, where, fail)
    if origin is tuple:
        return _decode_tuple(arguments, value, where, fail)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise fail(f"{where} is {_kind(value)}, expected an object")
        return {key: _decode(arguments[1], held, f"{where}.{_key(key)}", fail) for key, held in value.items()}
    accepted = (int, float) if hint is float else (hint,)
    if not isinstance(value, accepted) or isinstance(value, bool) != (hint is bool):
        raise fail(f"{where} is {_kind(value)}, expected {_WORDS[hint]}")
    return value


def _decode_object(cls: Any, value: Any, where: str, fail: Any) -> Any:
    if not isinstance(value, Mapping):
        raise fail(f"{where} is {_kind(value)}, expected an object")
    fields = {item.name: item for item in dataclasses.fields(cls)}
    if unknown := [key for key in value if key not in fields]:
        raise fail(f"{where} has the unknown key {shown(unknown[0])}, expected only {', '.join(fields)}")
    optional = {name for name, item in fields.items() if item.default is None}
    if missing := [name for name in fields if name not in value and name not in optional]:
        raise fail(f"{where} lacks the key {missing[0]!r}")
    hints = typing.get_type_hints(cls)
    return cls(**{key: _decode(hints[key], held, f"{where}.{key}", fail) for key, held in value.items()})


def _decode_tuple(arguments: tuple[Any, ...], value: Any, where: str, fail: Any) -> Any:
    if not isinstance(value, list):
        raise fail(f"{where} is {_kind(value)}, expected a list")
    if arguments[-1] is not Ellipsis and len(value) != len(arguments):
        raise fail(f"{where} has {len(value)} entries, expected {len(arguments)}")
    return tuple(_decode(arguments[0], held, f"{where}[{index}]", fail) for index, held in enumerate(value))


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


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", bool: "a boolean", type(None): "null"}
    kind = "string" if isinstance(value, str) else "number"
    return names.get(type(value)) or f"the {kind} {shown(value)}"


def _key(key: str) -> str:
    return key if key.isidentifier() and len(key) <= 80 else shown(key)
