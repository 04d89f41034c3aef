"""Products of half precision on the CPU, which has no arithmetic for them: in float32, and rounded once.

So GPUs do them, which sum in float32 too. PyTorch's own kernels for float16 are a hundred times slower on most CPUs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["HALVES", "half_products"]

HALVES = (torch.float16, torch.bfloat16)
aten = torch.ops.aten
PRODUCTS = {aten.matmul.default, aten.mm.default, aten.bmm.default, aten.mv.default, aten.addmm.default,
            aten.conv2d.default, aten.conv2d.padding, aten.convolution.default}  # fmt: skip


class _Widened(TorchDispatchMode):
    """Sees every operation of this thread inside."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func not in PRODUCTS or args[0].dtype not in HALVES:
            return func(*args, **(kwargs or {}))
        wide = (one.float() if isinstance(one, Tensor) else one for one in args)
        return func(*wide, **(kwargs or {})).to(args[0].dtype)


def half_products(module: Any) -> AbstractContextManager[Any]:
    """Inside, the products of a module are done in float32 if it has weights of half precision."""
    return _Widened() if any(held.dtype in HALVES for held in module.buffers()) else nullcontext()
