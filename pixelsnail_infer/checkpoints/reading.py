"""Reading a checkpoint file without running anything that it says.

`torch.load(weights_only=True)` with `argparse.Namespace` allowed, because the public training scripts store their
arguments so. For the harmless objects of `inert.py` empty stand-ins take their place. There is no way to ask for full
unpickling.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import torch

from pixelsnail_infer.checkpoints.inert import STAND_INS
from pixelsnail_infer.errors import CheckpointError
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.plainfile import open_plain

__all__ = ["read_file"]

# How torch names what a pickle asks to import or call, in the messages of its restricted unpickler.
_FORBIDDEN = re.compile(r"(?:GLOBAL|unrecognized function|constructor for) (?:<[a-z ]+ )?'?([A-Za-z_][\w.]*)")
_REASON = re.compile(r"WeightsUnpickler error: *([^\n]+)")


def read_file(path: str | os.PathLike[str]) -> tuple[object, str]:
    """The unpickled content of a checkpoint, on the CPU, and the sha256 of the file's bytes in hexadecimal.

    Raises:
        CheckpointError: the file is missing, unreadable, truncated, not a PyTorch checkpoint, or asks for anything
            besides tensors, plain containers, `argparse.Namespace` and what `inert.py` names.
    """
    name = one_line(Path(path))
    try:
        with open_plain(path) as file:
            if not file.read(1):
                raise CheckpointError(f"{name} is empty; expected a PyTorch checkpoint")
            return _load(file, name), _sha256(file)
    except FileNotFoundError:
        raise CheckpointError(f"{name} does not exist; give the path of a PyTorch checkpoint") from None
    except IsADirectoryError:
        raise CheckpointError(f"{name} is a folder; give the path of a PyTorch checkpoint in it") from None
    except OSError as error:
        raise CheckpointError(f"{name} cannot be read: {one_line(error.strerror or error)}") from None


def _sha256(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _load(file: BinaryIO, name: str) -> object:
    file.seek(0)
    allowed = torch.serialization.get_safe_globals()
    # Leaving the block below would also take back what the caller had allowed before.
    extra: list[Callable[..., object] | tuple[Callable[..., object], str]] = (
        [] if argparse.Namespace in allowed else [argparse.Namespace]
    )
    extra += STAND_INS
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(extra):
            warnings.simplefilter("ignore")  # about pickle protocols and archives; what matters is raised
            return torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a malformed pickle can raise nearly anything
        raise CheckpointError(f"{name} {_complaint(error)}") from None


def _complaint(error: Exception) -> str:
    """What is wrong with a file that torch would not read, as one line."""
    text = str(error)
    if "TorchScript" in text:
        return "is a TorchScript archive, which holds a program; save the module's state_dict() instead"
    if not isinstance(error, pickle.UnpicklingError):
        detail = one_line(text, 100)
    elif forbidden := _FORBIDDEN.search(text):
        return (
            f"is refused: reading it would import or run {one_line(forbidden.group(1), 80)}; only tensors, plain "
            "containers, argparse.Namespace and common metadata (dates, paths, NumPy numbers) are accepted, so save "
            "the model's state_dict() instead"
        )
    else:
        reason = _REASON.search(text)
        detail = one_line(reason.group(1), 100) if reason else ""
    kind = type(error).__name__ + (f": {detail}" if detail else "")
    return f"is truncated, damaged or not a PyTorch checkpoint ({kind})"
