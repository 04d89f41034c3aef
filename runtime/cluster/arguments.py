"""The `args` of a config file of `serve run`, checked before anything starts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.backends import BACKENDS, is_device
from pixelsnail_infer.runtime.serving.loading import parse_named
from pixelsnail_infer.runtime.serving.settings import LOCAL
from pixelsnail_infer.strictjson import decode, encode

__all__ = ["Arguments", "read_arguments"]

_ADVICE = "correct the args of the config file"
_AT_LEAST_1 = ("replicas", "cores", "slots", "queue", "memory", "max_n", "max_streams")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """What they mean is what the options of `pixelsnail-infer serve` mean.

    `models` are `[NAME=]FILE[,FILE…]`, at the same paths on every machine. There are `replicas` of the service, each
    with `cores` cores and threads, and on a GPU each where `device` is one. `hosts` are the names that a request may
    address it by; an empty list allows any. Limits count for each replica.
    """

    models: tuple[str, ...]
    replicas: int = 1
    cores: int = 1
    device: str = "cpu"
    backend: str = "auto"
    slots: int = 16
    queue: int = 256
    memory: int = 256
    max_n: int = 64
    max_streams: int = 4
    hosts: tuple[str, ...] = LOCAL
    api_key_file: str | None = None
    grace: float = 30.0


def read_arguments(args: Mapping[str, Any]) -> Arguments:
    """The fields of `Arguments` by name, as YAML or JSON give them. Raises `RequestError`."""
    defaults = {field.name: field.default for field in fields(Arguments) if field.default is not MISSING}
    held = decode(Arguments, encode({**defaults, **args}), "args", RequestError, _ADVICE)
    for name in _AT_LEAST_1:
        if getattr(held, name) < 1:
            raise RequestError(f"args.{name} is {getattr(held, name)}, expected at least 1; {_ADVICE}.")
    if not 0 <= held.grace < math.inf:
        raise RequestError(f"args.grace is {held.grace}, expected seconds from 0; {_ADVICE}.")
    if not is_device(held.device):
        raise RequestError(f"args.device is {shown(held.device)}, expected cpu, cuda, cuda:1, …; {_ADVICE}.")
    if held.backend not in ("auto", *BACKENDS):
        raise RequestError(f"args.backend is {shown(held.backend)}, expected auto, {', '.join(BACKENDS)}; {_ADVICE}.")
    _expect_names(held.models)
    return held


def _expect_names(models: tuple[str, ...]) -> None:
    if not models:
        raise RequestError(f"args.models is empty, expected a list of [NAME=]FILE[,FILE…]; {_ADVICE}.")
    try:
        names = [parse_named(text).name for text in models]
    except ValueError as error:
        raise RequestError(f"args.models: {error}.") from error
    if twice := [name for name in names if names.count(name) > 1]:
        raise RequestError(f"args.models has two models named {twice[0]}; write NAME=FILE.onnx for one of them.")
