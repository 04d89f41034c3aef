"""A fresh copy of a module: tracing and reference runs must neither touch the user's object nor share its caches."""

from __future__ import annotations

import copy

import torch

from pixelsnail_infer.errors import ModelError

__all__ = ["fresh_copy", "unwrapped"]


def unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """The network that `torch.compile` or a data-parallel wrapper was put around, else `module` itself."""
    for name in ("_orig_mod", "module"):
        inside = getattr(module, name, None)
        wraps = name == "_orig_mod" or isinstance(module, (torch.nn.DataParallel,
                                                           torch.nn.parallel.DistributedDataParallel))
        if wraps and isinstance(inside, torch.nn.Module):
            return unwrapped(inside)
    return module


def fresh_copy(module: torch.nn.Module, dtype: torch.dtype | None = None) -> torch.nn.Module:
    """A deep copy of `module` on the CPU, in eval mode, without gradients, floating tensors in `dtype` where given.

    Tensors that a module keeps as plain attributes and that autograd made (the recomputed `.weight` of the older weight
    norm) cannot be deep-copied as they are; they are detached first. Raises `ModelError` for what else cannot be.
    """
    memo: dict[int, object] = {}
    for child in module.modules():
        for value in vars(child).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    try:
        duplicate = copy.deepcopy(module, memo).cpu().eval().requires_grad_(False)
    except (TypeError, RuntimeError, RecursionError) as error:
        raise ModelError(f"the {type(module).__name__} cannot be copied ({type(error).__name__}: {error}); keep only "
                         "what copy.deepcopy takes on it.") from error
    return duplicate.to(dtype) if dtype is not None else duplicate
