"""The PyTorch model as the reference: a fresh copy that nothing else has touched, run over whole canvases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsnail_infer.distributions import Distribution, from_uint8, to_uint8
from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.export.tracing.double import in_double
from pixelsnail_infer.export.tracing.forward import Forward, ForwardFunction
from pixelsnail_infer.export.tracing.fresh import fresh_copy
from pixelsnail_infer.manifest import ConditionSpec
from pixelsnail_infer.noise import image_keys

__all__ = ["BATCH", "MANY", "Known", "Reference"]

BATCH = 3  # images of the larger batch in the proofs
MANY = 2048  # positions of a canvas beyond which what is proven twice is proven on fewer images
SEEDS = {torch.float32: 1, torch.float64: 23}  # of the images whose logits are kept


class Known(NamedTuple):
    """Images `[n, H, W, ...]`, their conditions, and their logits `[n, H, W, parameters]`."""

    images: NDArray[Any]
    conditions: dict[str, Any]
    logits: NDArray[Any]


class Reference:
    """`forward(module, pixels, conditions)` on copies of the module made before anything was traced.

    Images are codes int64 `[n, H, W]` or channels float32 `[n, H, W, C]`, as at the runtime; the module takes channels
    as `[n, C, H, W]`. Without `forward` the module is called with the pixels and its conditions by name.
    """

    def __init__(self, module: torch.nn.Module, forward: Forward | ForwardFunction | None, shape: tuple[int, int],
                 distribution: Distribution, conditions: Sequence[ConditionSpec]) -> None:
        self._module = fresh_copy(module)
        self._forward = forward if isinstance(forward, Forward) else Forward(forward)
        self.shape, self.distribution, self.conditions = shape, distribution, tuple(conditions)
        self._known: dict[tuple[int, torch.dtype], Known] = {}
        self._changes: bool | None = None  # whether a forward changes parameters or buffers, once one has run

    @property
    def positions(self) -> int:
        """Pixels of the canvas."""
        return self.shape[0] * self.shape[1]

    @property
    def exact_batches(self) -> tuple[int, int]:
        """The batch sizes of the proofs in float64, where a forward of a large network takes the most time."""
        return 1, BATCH if self.positions <= MANY else 2

    def inputs(self, count: int, seed: int) -> tuple[NDArray[Any], dict[str, Any]]:
        """Random images, those of channels on the 8-bit grid, and random conditions by name."""
        random, law = np.random.default_rng(seed), self.distribution
        levels = 256 if law.pixel_shape else law.parameters
        images: NDArray[Any] = random.integers(0, levels, (count, *self.shape, *law.pixel_shape))
        if law.pixel_shape:
            images = from_uint8(images.astype(np.uint8))
        return images, {spec.name: _random(spec, count, random) for spec in self.conditions}

    def known(self, count: int, dtype: torch.dtype = torch.float32) -> Known:
        """So many random images, the last ones of `BATCH`: run through the network when first asked for.

        In float32 the one is run alone; in float64 its logits are those that it has among the others. Raises as
        `logits` does.
        """
        assert 1 <= count <= BATCH
        if (count, dtype) not in self._known:
            images, conditions = self.inputs(BATCH, SEEDS[dtype])
            some = slice(BATCH - count, None)
            given = images[some], {name: value[some] for name, value in conditions.items()}
            alone = count == 1 and dtype == torch.float64
            logits = self.known(self.exact_batches[1], dtype).logits[-1:] if alone else self.logits(*given, dtype)
            self._known[count, dtype] = Known(*given, logits)
        return self._known[count, dtype]

    def repeated(self) -> tuple[NDArray[Any], list[str]] | None:
        """The logits of the one known image where the same module runs twice, those of the second time, and which of
        its parameters and buffers the second time changed. None where the first time changes none of them."""
        known = self.known(1)
        if not self._changes:
            return None
        module = fresh_copy(self._module, torch.float32)
        self._run(module, known.images, known.conditions, torch.float32)
        before = _state(module)
        logits = self._run(module, known.images, known.conditions, torch.float32)
        return logits, _changed(before, module)

    def changed(self, image: NDArray[Any], start: int, stop: int | None = None) -> NDArray[Any]:
        """`image` `[H, W, ...]` with other pixels at raster positions from `start` to before `stop`, or to the end."""
        channels = bool(self.distribution.pixel_shape)
        levels = 256 if channels else self.distribution.parameters
        codes: NDArray[Any] = (to_uint8(image) if channels else image).astype(np.int64)
        codes = codes.reshape(self.positions, -1)
        part = codes[start:stop]
        steps = 1 + np.arange(part.size).reshape(part.shape) % max(levels - 1, 1)
        codes[start:stop] = (part + steps) % levels
        codes = codes.reshape(image.shape)
        return from_uint8(codes.astype(np.uint8)) if channels else codes

    def tensor(self, images: NDArray[Any], dtype: torch.dtype) -> torch.Tensor:
        """Images as the module takes them; channels in `dtype`."""
        value = torch.from_numpy(np.ascontiguousarray(images))
        return value.permute(0, 3, 1, 2).contiguous().to(dtype) if self.distribution.pixel_shape else value

    def logits(self, images: NDArray[Any], conditions: Mapping[str, NDArray[Any]],
               dtype: torch.dtype = torch.float32) -> NDArray[Any]:
        """Logits, or the parameters of a mixture, `[n, H, W, parameters]` of one full-image forward in `dtype`.

        Raises `ModelError` where the forward fails, gives no such tensor, or gives numbers that are not finite.
        """
        module = fresh_copy(self._module, dtype)
        before = _state(module) if self._changes is None else {}
        logits = self._run(module, images, conditions, dtype)
        if self._changes is None:
            self._changes = bool(_changed(before, module))
        return logits

    def _run(self, module: torch.nn.Module, images: NDArray[Any], conditions: Mapping[str, NDArray[Any]],
             dtype: torch.dtype) -> NDArray[Any]:
        given = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in conditions.items()}
        given = {name: value.to(dtype) if value.is_floating_point() else value for name, value in given.items()}
        with torch.no_grad(), in_double() if dtype == torch.float64 else nullcontext():
            out = self._forward(module, self.tensor(images, dtype), given)
        self._check(out, len(images))
        result: NDArray[Any] = out.to(dtype).permute(0, 2, 3, 1).contiguous().numpy()
        if not np.isfinite(result).all():
            raise ModelError(f"the network gives NaN or infinite numbers for valid pixels ({dtype}), so nothing can be "
                             "verified. A row of attention that is masked with -inf throughout gives such.")
        return result

    def _check(self, out: torch.Tensor, count: int) -> None:
        """The output is `[count, parameters, H, W]`, of numbers."""
        if type(out) is not torch.Tensor:
            raise ModelError(f"the model's forward gives a {type(out).__name__} without numbers: what it keeps outside "
                             "of the module holds something that an earlier trace or torch.export left there. Start "
                             "Python anew, or empty it.")
        height, width = self.shape
        if out.dim() == 4 and (out.shape[0], *out.shape[2:]) == (count, height, width):
            if (law := self.distribution).parameters != out.shape[1]:
                raise ModelError(f"the network gives {out.shape[1]} numbers per pixel, expected {law.parameters} for "
                                 f"{law}.")
            return
        raise ModelError(f"the network gives a tensor {list(out.shape)} for {count} images, expected [{count}, "
                         f"{self.distribution.parameters}, {height}, {width}]: batch, numbers per pixel, rows and "
                         "columns. Check the canvas, or give forward= a function that brings the axes in this order.")

    def noise(self, count: int, seed: int) -> NDArray[np.float32]:
        """The noise that `sample(count, seed=seed)` uses, `[n, H, W, noise_width]`."""
        keys, (height, width) = image_keys(seed, count), self.shape
        return np.stack([self.distribution.noise_row(keys, i, width) for i in range(height)], axis=1)


def _state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def _changed(before: Mapping[str, torch.Tensor], module: torch.nn.Module) -> list[str]:
    after = module.state_dict()
    return [name for name, value in before.items() if not torch.equal(value, after[name])]


def _random(spec: ConditionSpec, count: int, random: np.random.Generator) -> NDArray[Any]:
    if spec.dtype == "int64":
        return random.integers(0, spec.levels or 1, (count, *spec.shape))
    return random.standard_normal((count, *spec.shape)).astype(np.float32)
