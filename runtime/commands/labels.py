"""Condition values on the command line: lists like `0,1,5-7`, numbers, and `NAME=FILE.npy`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.manifest import ConditionSpec
from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.files.arrays import load_array
from pixelsnail_infer.runtime.requests.conditions import describe

_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")
_MOST = 100_000


def parse_labels(text: str) -> list[int]:
    """`0-9`, `3` or `0,1,5-7` as a list. Raises `ValueError` for anything else."""
    labels: list[int] = []
    for item in text.split(","):
        if (match := _RANGE.fullmatch(item.strip())) is None:
            raise ValueError(f"{shown(text)} is not a list of labels; write 3, 0-9 or 0,1,5-7")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"{shown(item.strip())} is not a range; write the smaller label first, as in 0-9")
        if len(labels) + last - first >= _MOST:
            raise ValueError(f"{shown(item.strip())} makes it more than {_MOST:,} labels; write fewer labels")
        labels.extend(range(first, last + 1))
    return labels


def parse_condition(text: str) -> tuple[str, str]:
    """`NAME=VALUE` as a pair. Raises `ValueError` for anything else."""
    name, separator, value = text.partition("=")
    if not (name.strip() and separator and value.strip()):
        raise ValueError(f"{shown(text)} is not NAME=FILE.npy or NAME=VALUES")
    return name.strip(), value.strip()


def class_condition(specs: Sequence[ConditionSpec]) -> ConditionSpec:
    """The condition that `--label` means: the one named label, or the only one of kind class."""
    classes = [spec for spec in specs if spec.kind == "class"]
    named = [spec for spec in classes if spec.name == "label"]
    if len(chosen := named or classes) == 1:
        return chosen[0]
    if not specs:
        raise RequestError("--label was given, but this model takes no conditions; leave it out.")
    takes = "; ".join(describe(spec) for spec in specs)
    raise RequestError(f"--label was given, but this model has no single class condition; use --condition for {takes}.")


def read_conditions(
    specs: Sequence[ConditionSpec], labels: Sequence[int] | None, pairs: Sequence[tuple[str, str]], n: int
) -> dict[str, Any]:
    """Values of the conditions `specs` for n images, from `--label` and `--condition`; lists of classes are cycled over
    the images. A name that is not among them is passed on, to be refused with the names that there are."""
    cycles, values = read_cycles(specs, labels, pairs)
    return {**{name: np.resize(held, n) for name, held in cycles.items()}, **values}


def read_cycles(
    specs: Sequence[ConditionSpec], labels: Sequence[int] | None, pairs: Sequence[tuple[str, str]]
) -> tuple[dict[str, NDArray[np.int64]], dict[str, Any]]:
    """The same for any number of images: the lists of classes int64 [m], to be cycled over them, and the other values,
    each for all images or with one for each."""
    cycles: dict[str, NDArray[np.int64]] = {}
    values: dict[str, Any] = {}
    if labels:
        cycles[class_condition(specs).name] = np.array(labels, np.int64)
    by_name = {spec.name: spec for spec in specs}
    for name, text in pairs:
        if name in cycles or name in values:
            raise RequestError(f"The condition {name!r} was given twice; give it once.")
        spec = by_name.get(name)
        if spec is not None and spec.kind == "class" and not text.endswith(".npy"):
            cycles[name] = _classes(name, text)
        else:
            values[name] = _read(spec, name, text)
    if missing := [spec for spec in specs if spec.name not in cycles and spec.name not in values]:
        option = "--label 0-9" if missing[0].kind == "class" else f"--condition {missing[0].name}=FILE.npy"
        raise RequestError(f"This model needs a condition: {describe(missing[0])}; add for example {option}.")
    return cycles, values


def _read(spec: ConditionSpec | None, name: str, text: str) -> Any:
    if text.endswith(".npy"):
        return load_array(text, f"--condition {name}")
    if spec is None:
        return text
    if spec.kind == "vector":
        try:
            return np.array([float(item) for item in text.split(",")])
        except ValueError as error:
            raise RequestError(f"--condition {name}: {str(error)[:200]}.") from error
    raise RequestError(f"--condition {name} needs a .npy file: {describe(spec)}.")


def _classes(name: str, text: str) -> NDArray[np.int64]:
    try:
        return np.array(parse_labels(text), np.int64)
    except ValueError as error:
        raise RequestError(f"--condition {name}: {str(error)[:200]}.") from error
