"""The PyTorch model as the reference: a fresh copy that nothing else has touched, run over whole canvases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsnail_infer.distributions import Distribution, from_uint8, to_uint8
from pixelsnail_infer.export.fresh import fresh_copy
from pixelsnail_infer.manifest import ConditionSpec
from pixelsnail_infer.noise import image_keys

__all__ = ["Reference"]


class Reference:
    """`forward(module, pixels, **conditions)` on copies of the module made before anything was traced.

    Images are codes int64 `[n, H, W]` or channels float32 `[n, H, W, C]`, as at the runtime; the module takes channels
    as `[n, C, H, W]`.
    """

    def __init__(self, module: torch.nn.Module, forward: Callable[..., torch.Tensor], shape: tuple[int, int],
                 distribution: Distribution, conditions: Sequence[ConditionSpec]) -> None:
        self._module = fresh_copy(module)
        self._forward = forward
        self.shape, self.distribution, self.conditions = shape, distribution, tuple(conditions)

    def inputs(self, count: int, seed: int) -> tuple[NDArray[Any], dict[str, Any]]:
        """Random images, those of channels on the 8-bit grid, and random conditions by name."""
        random, law = np.random.default_rng(seed), self.distribution
        levels = 256 if law.pixel_shape else law.parameters
        images: NDArray[Any] = random.integers(0, levels, (count, *self.shape, *law.pixel_shape))
        if law.pixel_shape:
            images = from_uint8(images.astype(np.uint8))
        return images, {spec.name: _random(spec, count, random) for spec in self.conditions}

    def changed(self, image: NDArray[Any], start: int) -> NDArray[Any]:
        """`image` `[H, W, ...]` with other pixels from raster position `start` on."""
        channels = bool(self.distribution.pixel_shape)
        levels = 256 if channels else self.distribution.parameters
        codes: NDArray[Any] = (to_uint8(image) if channels else image).astype(np.int64)
        codes = codes.reshape(self.shape[0] * self.shape[1], -1)
        steps = 1 + np.arange(codes[start:].size).reshape(codes[start:].shape) % max(levels - 1, 1)
        codes[start:] = (codes[start:] + steps) % levels
        codes = codes.reshape(image.shape)
        return from_uint8(codes.astype(np.uint8)) if channels else codes

    def tensor(self, images: NDArray[Any], dtype: torch.dtype) -> torch.Tensor:
        """Images as the module takes them; channels in `dtype`."""
        value = torch.from_numpy(np.ascontiguousarray(images))
        return value.permute(0, 3, 1, 2).contiguous().to(dtype) if self.distribution.pixel_shape else value

    def logits(self, images: NDArray[Any], conditions: Mapping[str, NDArray[Any]],
               dtype: torch.dtype = torch.float32) -> NDArray[Any]:
        """Logits, or the parameters of a mixture, `[n, H, W, parameters]` of one full-image forward in `dtype`."""
        module = fresh_copy(self._module, dtype)
        given = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in conditions.items()}
        given = {name: value.to(dtype) if value.is_floating_point() else value for name, value in given.items()}
        with torch.no_grad():
            out = self._forward(module, self.tensor(images, dtype), **given)
        result: NDArray[Any] = out.permute(0, 2, 3, 1).contiguous().numpy()
        return result

    def noise(self, count: int, seed: int) -> NDArray[np.float32]:
        """The noise that `sample(count, seed=seed)` uses, `[n, H, W, noise_width]`."""
        keys, (height, width) = image_keys(seed, count), self.shape
        return np.stack([self.distribution.noise_row(keys, i, width) for i in range(height)], axis=1)


def _random(spec: ConditionSpec, count: int, random: np.random.Generator) -> NDArray[Any]:
    if spec.dtype == "int64":
        return random.integers(0, spec.levels or 1, (count, *spec.shape))
    return random.standard_normal((count, *spec.shape)).astype(np.float32)
