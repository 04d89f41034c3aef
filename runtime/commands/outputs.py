"""What `-o` names: one file, or a file for every image, in a folder or by a pattern such as `img_{index:04d}.png`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import shown

__all__ = ["Output", "parse_output"]

SUFFIXES = (".png", ".npy")
MOST_FILES = 100_000
_FOLDER_NAME = "{index:04d}.png"
_FIELDS = ("index", "seed", "label")
_BRACES = re.compile(r"\{\{|\}\}|\{([a-z]\w*)(?::0([1-9]\d?)d?)?\}|[{}]")
_HELP = "{index}, {seed} and {label} are fields, {index:04d} has 4 digits, {{ and }} are braces"


@dataclass(frozen=True, slots=True)
class Output:
    """The parsed argument. `each`: a file for every image; `folder`: what folder there is not is made."""

    pattern: str
    each: bool
    folder: bool

    @property
    def picture(self) -> bool:
        """Whether the files are pictures, not arrays."""
        return self.pattern.endswith(".png")

    def paths(self, n: int, seed: int, labels: Sequence[int] | None) -> list[Path]:
        """The files of n images. Raises `RequestError` for a field that has no value, for too many files, and where two
        images would have one file."""
        if not self.each:
            return [Path(_filled(self.pattern, {}))]
        if n > MOST_FILES:
            raise RequestError(f"-o names a file for each of {n} images, expected at most {MOST_FILES:,}.")
        paths: dict[Path, int] = {}
        for k in range(n):
            values = {"index": k, "seed": seed} | ({"label": labels[k % len(labels)]} if labels else {})
            path = Path(_filled(self.pattern, values))
            if (other := paths.setdefault(path, k)) != k:
                raise RequestError(f"-o names {path} for both image {other} and image {k}; add {{index}} to it.")
        return list(paths)


def parse_output(text: str) -> Output:
    """The type of `-o`. Raises `ValueError`."""
    suffix = Path(text).suffix
    folder = text.endswith(("/", os.sep)) or (suffix not in SUFFIXES and text != "" and os.path.isdir(text))
    if not folder and suffix not in SUFFIXES:
        raise ValueError(f"{shown(text)} should end in {' or '.join(SUFFIXES)}, or be a folder, as in out/")
    fields = [match[1] for match in _BRACES.finditer(text) if match[0] not in ("{{", "}}")]
    if None in fields:
        raise ValueError(f"{shown(text)} has a brace that belongs to no field: {_HELP}")
    if unknown := [name for name in fields if name not in _FIELDS]:
        raise ValueError(f"{shown(text)} has the unknown field {unknown[0]}: {_HELP}")
    return Output(os.path.join(text, _FOLDER_NAME) if folder else text, folder or bool(fields), folder)


def _filled(pattern: str, values: Mapping[str, int]) -> str:
    def fill(match: re.Match[str]) -> str:
        name, width = match[1], match[2]
        if name is None:
            return match[0][0]
        if name not in values:
            raise RequestError(f"-o has the field {{{name}}}, but there is no --label; expected {{index}} or {{seed}}.")
        return f"{values[name]:0{int(width or 1)}d}"

    return _BRACES.sub(fill, pattern)
