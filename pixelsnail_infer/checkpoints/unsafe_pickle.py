"""Reading a pickle of a whole module, which can run anything: only ever called when the user asks for it by name.

jrbtaylor/conditional-pixelcnn saves `torch.save(model)`: the pickle imports `model.PixelCNN` and other classes of its
own, and PyTorch's. Nothing of the project's safe path comes through here, and this file imports none of it but its
errors and how a file is opened. The classes of `model` are replaced by empty stand-ins, so that the public code need
not be there; all else is imported and called as the file says. Give it only files whose origin you trust as much as a
program's.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import types
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pixelsnail_infer.errors import CheckpointError
from pixelsnail_infer.plainfile import open_plain

__all__ = ["read_module_unsafely"]

STAND_INS = ("model", "__main__")  # modules of the public code; its classes only carry tensors here


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in STAND_INS:
            return type(name, (nn.Module,), {})
        return super().find_class(module, name)


def _pickle_module() -> types.ModuleType:
    """What `torch.load` wants in place of `pickle`."""
    module = types.ModuleType("pixelsnail_infer_unpickler")
    vars(module).update({**vars(pickle), "Unpickler": _Unpickler})
    return module


def read_module_unsafely(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], str]:
    """The parameters and buffers of a pickled module by name, on the CPU, and the file's sha256 in hexadecimal.

    RUNS WHAT THE FILE SAYS. A state dict, or anything else that is no module, is refused.

    Raises:
        CheckpointError: the file is missing or unreadable, or holds no module.
    """
    name = Path(path)
    try:
        with open_plain(name) as file:
            data = file.read()
        digest = hashlib.sha256(data).hexdigest()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sources that have changed since
            stream, unpickler = io.BytesIO(data), _pickle_module()
            content = torch.load(stream, map_location="cpu", weights_only=False, pickle_module=unpickler)
    except OSError as error:
        raise CheckpointError(f"{name} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # a pickle can raise anything
        raise CheckpointError(f"{name} could not be unpickled: {type(error).__name__}: {error}") from None
    if not isinstance(content, nn.Module):
        raise CheckpointError(f"{name} holds a {type(content).__name__}, not a module: it needs no unsafe pickle")
    tensors: dict[str, Tensor] = {}
    _collect(content, "", tensors)
    return tensors, digest


def _collect(module: nn.Module, prefix: str, tensors: dict[str, Tensor]) -> None:
    """By hand, because modules that an old PyTorch saved lack what `state_dict` looks for."""
    for kind in ("_parameters", "_buffers"):
        for name, tensor in vars(module).get(kind, {}).items():
            if tensor is not None:
                tensors[prefix + name] = tensor.detach()
    for name, child in vars(module).get("_modules", {}).items():
        if child is not None:
            _collect(child, f"{prefix}{name}.", tensors)
