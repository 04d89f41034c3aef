"""A fresh copy of a module: tracing and reference runs must neither touch the user's object nor share its caches."""

from __future__ import annotations

import copy

import torch

__all__ = ["fresh_copy"]


def fresh_copy(module: torch.nn.Module, dtype: torch.dtype | None = None) -> torch.nn.Module:
    """A deep copy of `module` in eval mode, without gradients, floating tensors in `dtype` where given.

    Tensors that a module keeps as plain attributes and that autograd made (the recomputed `.weight` of the older weight
    norm) cannot be deep-copied as they are; they are detached first.
    """
    memo: dict[int, object] = {}
    for child in module.modules():
        for value in vars(child).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    duplicate = copy.deepcopy(module, memo).eval().requires_grad_(False)
    return duplicate.to(dtype) if dtype is not None else duplicate
