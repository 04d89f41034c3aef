"""Where in a file's content a model lies: in which dictionary, and under which prefix of its names.

The dictionaries are walked. Every family has a mark, a part of a name that each of its models has: what stands before
it is a prefix to try. So the time grows with the number of names only, whatever the file holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from pixelsnail_infer.errors import CheckpointError
from pixelsnail_infer.messages import one_line

__all__ = ["AVERAGED", "Candidate", "Recognise", "dictionaries", "find_candidates", "tensors_of"]

ROOT = "."
"""What `--key` calls the file itself."""
DEPTH = 8
"""Dictionaries within each other, and parts of a prefix: deeper than any training code puts a model."""
MOST = 100_000
"""Dictionaries in one file. A file can name one dictionary many times within itself, so the walk has a limit."""
AVERAGED = re.compile(r"(?:^|_)(?:ema|swa|averaged?|avg|shadow)(?:$|_)|^ema", re.IGNORECASE)
ONLINE = re.compile(r"online", re.IGNORECASE)

Recognise = Callable[[Mapping[str, Tensor]], "str | None"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model in a file."""

    keys: tuple[str, ...]
    """The entries that lead to its dictionary."""
    prefix: str
    """What the names of its tensors begin with there, with a dot at the end; or empty."""
    tensors: dict[str, Tensor]
    """By their names without the prefix, as the file spells them."""
    family: str

    @property
    def parts(self) -> tuple[str, ...]:
        """The steps from the file to the model."""
        return (*self.keys, *self.prefix.split(".")[:-1])

    @property
    def place(self) -> str:
        """As `--key` names it."""
        return ".".join(self.parts) or ROOT

    @property
    def averaged(self) -> bool:
        """Whether its place says that the weights are averages; the last part that says anything decides."""
        for part in reversed(self.parts):
            if AVERAGED.search(part) or ONLINE.search(part):
                return not ONLINE.search(part)
        return False

    def __str__(self) -> str:
        count = sum(tensor.numel() for tensor in self.tensors.values())
        return f"'{one_line(self.place, 60)}' ({self.family}, {len(self.tensors)} tensors, {count:,} numbers)"


def tensors_of(entry: Mapping[object, object]) -> dict[str, Tensor]:
    """The named tensors that stand in a dictionary itself."""
    return {name: value for name, value in entry.items() if isinstance(name, str) and isinstance(value, Tensor)}


def dictionaries(content: object) -> Iterator[tuple[tuple[str, ...], Mapping[object, object]]]:
    """Every dictionary with the keys that lead to it, the outer before the inner. Raises CheckpointError for many."""
    seen = 0
    ahead: list[tuple[tuple[str, ...], object]] = [((), content)]
    while ahead:
        keys, entry = ahead.pop()
        if isinstance(entry, Mapping):
            if (seen := seen + 1) > MOST:
                raise CheckpointError(f"holds more than {MOST:,} dictionaries; save the model's state_dict() alone")
            yield keys, entry
            if len(keys) < DEPTH:
                ahead += [((*keys, key), value) for key, value in reversed(list(entry.items()))
                          if isinstance(key, str) and isinstance(value, Mapping)]


def find_candidates(content: object, marks: re.Pattern[str], recognise: Recognise) -> list[Candidate]:
    """The models in the order of the file. `recognise` gives the family of tensors by name, or None.

    `marks` finds the beginnings of names that every model has. A tensor belongs to the model with the longest prefix.
    """
    found: list[Candidate] = []
    for keys, entry in dictionaries(content):
        tensors = tensors_of(entry)
        tried = {name[: match.start()]: dict[str, Tensor]() for name in tensors for match in marks.finditer(name)}
        for name, tensor in tensors.items() if tried else ():
            for prefix in _prefixes(name):
                if prefix in tried:
                    tried[prefix][name[len(prefix):]] = tensor
        models = {prefix: family for prefix, group in tried.items() if (family := recognise(group)) is not None}
        own = {prefix: dict[str, Tensor]() for prefix in models}
        for name, tensor in tensors.items() if models else ():
            within = [prefix for prefix in _prefixes(name) if prefix in models]
            if within:
                own[within[-1]][name[len(within[-1]):]] = tensor
        found += [Candidate(keys, prefix, own[prefix], family) for prefix, family in models.items()]
    return found


def _prefixes(name: str) -> Iterator[str]:
    """The beginnings of a name that end with a dot, the empty one first."""
    end = 0
    for _ in range(DEPTH + 1):
        yield name[:end]
        end = name.find(".", end) + 1
        if not end:
            break
