"""The PyTorch model as the reference: a fresh copy that nothing else has touched, run over whole canvases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsnail_infer.export.fresh import fresh_copy
from pixelsnail_infer.manifest import ConditionSpec

__all__ = ["Reference"]


class Reference:
    """`forward(module, pixels, **conditions)` on copies of the module made before anything was traced."""

    def __init__(self, module: torch.nn.Module, forward: Callable[..., torch.Tensor], shape: tuple[int, int], levels: int,
                 conditions: Sequence[ConditionSpec]) -> None:
        self._module = fresh_copy(module)
        self._forward = forward
        self.shape, self.levels, self.conditions = shape, levels, tuple(conditions)

    def inputs(self, count: int, seed: int) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]]]:
        """Random codes int64 `[count, H, W]` and random conditions by name."""
        random = np.random.default_rng(seed)
        codes = random.integers(0, self.levels, (count, *self.shape))
        return codes, {spec.name: _random(spec, count, random) for spec in self.conditions}

    def logits(self, codes: NDArray[np.int64], conditions: Mapping[str, NDArray[Any]],
               dtype: torch.dtype = torch.float32) -> NDArray[Any]:
        """Logits `[n, H, W, levels]` of one full-image forward in `dtype`."""
        module = fresh_copy(self._module, dtype)
        given = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in conditions.items()}
        given = {name: value.to(dtype) if value.is_floating_point() else value for name, value in given.items()}
        with torch.no_grad():
            out = self._forward(module, torch.from_numpy(np.ascontiguousarray(codes)), **given)
        result: NDArray[Any] = out.permute(0, 2, 3, 1).contiguous().numpy()
        return result


def _random(spec: ConditionSpec, count: int, random: np.random.Generator) -> NDArray[Any]:
    if spec.dtype == "int64":
        return random.integers(0, spec.levels or 1, (count, *spec.shape))
    return random.standard_normal((count, *spec.shape)).astype(np.float32)
