"""Running code that was written for float32 in float64: what it makes or casts to float32 becomes float64 instead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["as_double", "double_default", "in_double"]


def as_double(kwargs: dict[str, Any] | None) -> dict[str, Any]:
    """The keyword arguments of an operation with float64 where they ask for float32."""
    kwargs = kwargs or {}
    return {**kwargs, "dtype": torch.float64} if kwargs.get("dtype") == torch.float32 else kwargs


class _Double(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **as_double(kwargs))


@contextmanager
def in_double() -> Iterator[None]:
    """Within it `.float()`, `dtype=torch.float32` and the default of new tensors are float64.

    Networks call `.float()` on a one-hot and make constants as they go; their float64 copies would else meet float32.
    """
    with double_default(), _Double():  # type: ignore[no-untyped-call]
        yield


@contextmanager
def double_default() -> Iterator[None]:
    """New tensors are float64 where nothing else is asked for."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
