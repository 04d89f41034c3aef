"""Caches that a model's source keeps outside of the module: `functools.lru_cache` and dictionaries for its masks.

A trace, such as a `torch.export` that failed, can leave tensors without numbers in them; every later forward of the
process then uses those, and nothing that it gives proves anything.
"""

from __future__ import annotations

import functools
import gc
import os
import sys
from collections.abc import Iterator
from types import ModuleType

import torch
from torch._subclasses.fake_tensor import FakeTensor

__all__ = ["forget_fakes"]

DEPTH = 4  # of containers within containers that are looked into


def forget_fakes(module: torch.nn.Module) -> None:
    """Empty what holds tensors without numbers: `lru_cache`s and entries of dictionaries in the files of `module`'s
    classes and in the neighbours of those files that they name. Nothing else is touched."""
    classes = {base for child in module.modules() for base in type(child).__mro__}
    sources = {name for c in classes if (name := c.__module__).split(".")[0] not in ("torch", "builtins")}
    for source in [found for name in sorted(sources) if (found := sys.modules.get(name)) is not None]:
        for place in (source, *_neighbours(source)):
            for value in _values(place):
                if isinstance(value, functools._lru_cache_wrapper) and _fake(gc.get_referents(value)):
                    value.cache_clear()
                elif isinstance(value, dict):
                    for key in [key for key, held in value.items() if _fake(held)]:
                        del value[key]


def _fake(value: object, depth: int = DEPTH) -> bool:
    """Whether this is a tensor without numbers, or a container that holds one."""
    if isinstance(value, FakeTensor):
        return True
    if not depth or not isinstance(value, (dict, list, tuple)):
        return False
    return any(_fake(held, depth - 1) for held in (value.values() if isinstance(value, dict) else value))


def _neighbours(source: ModuleType) -> Iterator[ModuleType]:
    """Modules that `source` names and that lie in its folder or below."""
    folder = os.path.dirname(getattr(source, "__file__", None) or "")
    for value in list(vars(source).values()):
        file = getattr(value, "__file__", None) if isinstance(value, ModuleType) else None
        if folder and file and file.startswith(folder + os.sep):
            yield value


def _values(source: ModuleType) -> Iterator[object]:
    """What `source` names, and what its classes hold."""
    for value in list(vars(source).values()):
        yield value
        if isinstance(value, type) and value.__module__ == source.__name__:
            yield from (getattr(held, "__func__", held) for held in list(vars(value).values()))
