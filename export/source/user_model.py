"""A model whose class stands in a file of the user's: imported because they named it, and made with their arguments.

The file runs as `python file.py` would run it, but for the name of its module: its folder comes first among the places
that imports are looked for, and what was imported from there is forgotten afterwards.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pixelsnail_infer.errors import ModelError, PixelsnailError
from pixelsnail_infer.export.tracing.source_lines import error_line
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.strictjson import parse_object

__all__ = ["model_arguments", "user_model"]

MODULE = "pixelsnail_user_model"  # what the name of the module begins with that the file becomes


@contextmanager
def user_model(where: str, arguments: dict[str, Any]) -> Iterator[nn.Module]:
    """Import `path/to/file.py:Name` and call `Name(**arguments)`: a module with fresh weights. RUNS THE FILE.

    `Name` is a class, or a function that returns a module. Leave the context only when the module's forward will not
    run again: its imports work within it only.

    Raises `ModelError`, with the line of the file where its code fails.
    """
    path, name = _place(where)
    with _imported(path) as module:
        yield _made(_found(module, name, path), name, path, arguments)


def model_arguments(text: str | None) -> dict[str, Any]:
    """Keyword arguments from a JSON object; its lists stay lists. Raises `ModelError`."""
    if text is None:
        return {}
    try:
        return parse_object(text, "--model-args", ModelError)
    except ModelError as error:
        reason = error.__cause__ or f"it is {type(json.loads(text)).__name__}"
        raise ModelError(f"--model-args is {one_line(text, 80)!r}, expected a JSON object with the names of arguments, "
                         f"such as '{{\"shape\": [32, 32], \"n_class\": 512}}' ({reason}).") from None


def _place(where: str) -> tuple[Path, str]:
    file, colon, name = where.rpartition(":")
    if not colon or not file or not name.isidentifier():
        raise ModelError(f"--model is {where!r}, expected a file and a class in it, such as path/to/file.py:ClassName.")
    path = Path(file).absolute()
    if not path.is_file() or path.suffix != ".py":
        reason = "is no Python file (.py)" if path.exists() else "does not exist"
        raise ModelError(f"--model names {file}, which {reason}; expected such as path/to/pixelsnail.py:{name}.")
    return path, name


@contextmanager
def _imported(path: Path) -> Iterator[types.ModuleType]:
    """The file as a module of its own name, its folder importable; both are undone in the end."""
    own, folder = f"{MODULE}_{path.stem}", str(path.parent)
    spec = importlib.util.spec_from_file_location(own, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before, bytecode = set(sys.modules), sys.dont_write_bytecode
    sys.path.insert(0, folder)
    sys.modules[own], sys.dont_write_bytecode = module, True
    try:
        with _failing(f"importing {path.name}"):
            spec.loader.exec_module(module)
        yield module
    finally:
        sys.dont_write_bytecode = bytecode
        if folder in sys.path:
            sys.path.remove(folder)
        for name in [name for name in set(sys.modules) - before if _beside(name, path.parent)]:
            if name.partition(".")[0] not in before:
                del sys.modules[name]
        sys.modules.pop(own, None)


def _beside(name: str, folder: Path) -> bool:
    """Whether the top of this module is a file or a package in `folder`."""
    top = sys.modules.get(name.partition(".")[0])
    file = getattr(top, "__file__", None)
    places = [Path(file)] if file else [Path(place) for place in getattr(top, "__path__", ())]
    return any(folder in (p.parent, *([p.parent.parent] if p.name == "__init__.py" else ())) for p in places)


def _found(module: types.ModuleType, name: str, path: Path) -> Callable[..., Any]:
    found = getattr(module, name, None)
    if callable(found):
        return found
    held = [key for key, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == module.__name__]
    what = f"has no {name}" if found is None else f"has a {type(found).__name__} called {name}, not a class"
    raise ModelError(f"{path.name} {what}; its modules are {', '.join(held) or 'none'}.")


def _made(make: Callable[..., Any], name: str, path: Path, arguments: dict[str, Any]) -> nn.Module:
    with _failing(f"making {name} of {path.name} with --model-args {one_line(json.dumps(arguments), 120)}"), \
            warnings.catch_warnings(), torch.random.fork_rng(devices=()):
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch's, about how the user's file is written
        made = make(**arguments)
    if not isinstance(made, nn.Module):
        raise ModelError(f"{name} of {path.name} gives a {type(made).__name__}, expected a torch.nn.Module.")
    return made


@contextmanager
def _failing(doing: str) -> Iterator[None]:
    """Errors of the user's code become one message with its line."""
    try:
        yield
    except PixelsnailError:
        raise
    except (Exception, SystemExit) as error:
        line = error_line(error)
        raise ModelError(f"{doing} fails{f' at {line}' if line else ''}: {type(error).__name__}: "
                         f"{one_line(error, 300)}") from error
