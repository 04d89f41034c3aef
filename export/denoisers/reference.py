"""The PyTorch network of a denoiser, a fresh copy that nothing else has touched, and slow chains of reverse steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsnail_infer.export.denoisers.formulas import FormulaStep, cumulative
from pixelsnail_infer.export.tracing.fresh import fresh_copy
from pixelsnail_infer.models.unet import UNet
from pixelsnail_infer.noise import DRAWING, normal_image

__all__ = ["IMAGES", "DenoiserReference"]

IMAGES = 3
Images = NDArray[np.float32]


class DenoiserReference:
    """The network, and images, labels and small pictures to run it on; arrays are [n, C, H, W]."""

    def __init__(self, module: UNet) -> None:
        copied = fresh_copy(module)
        assert isinstance(copied, UNet)
        self.module, self.config = copied, module.config
        random = np.random.default_rng(7)
        self.shape = (self.config.channels, *self.config.shape)
        self.images = random.standard_normal((IMAGES, *self.shape)).astype(np.float32)
        self.labels = None if self.config.classes is None else random.integers(0, self.config.classes, IMAGES)
        self.low_res = None if self.config.low_res is None else \
            random.uniform(-1, 1, (IMAGES, self.config.channels, *self.config.low_res)).astype(np.float32)

    def time(self, step: int) -> float:
        """What the network is told of a step of the whole diffusion."""
        spec = self.config.diffusion
        return step * (1000.0 / spec.steps) if spec.rescale_timesteps else float(step)

    @torch.no_grad()
    def output(self, x: Images, steps: list[int], some: slice) -> NDArray[np.float32]:
        """What PyTorch gives of images, each at a step of the whole diffusion, with the conditions of `some`."""
        times = torch.tensor([self.time(step) for step in steps], dtype=torch.float32)
        labels = None if self.labels is None else torch.from_numpy(self.labels[some])
        small = None if self.low_res is None else torch.from_numpy(self.low_res[some])
        result: NDArray[np.float32] = self.module(torch.from_numpy(x), times, labels, small).numpy()
        return result

    @torch.no_grad()
    def rounding(self, x: Images, step: int) -> float:
        """How far PyTorch's float32 is from its float64, in standard deviations of the output, the first image."""
        precise = fresh_copy(self.module, torch.float64)
        labels = None if self.labels is None else torch.from_numpy(self.labels[:1])
        small = None if self.low_res is None else torch.from_numpy(self.low_res[:1])
        time = torch.tensor([self.time(step)], dtype=torch.float64)
        expected = precise(torch.from_numpy(x[:1]).double(), time, labels, None if small is None else small.double())
        usual = self.module(torch.from_numpy(x[:1]), time.float(), labels, small)
        return float((expected - usual).abs().max() / expected.std())

    def chain(self, keys: NDArray[np.uint64], taken: tuple[int, ...], eta: float | None,
              say: Callable[[str], None]) -> Images:
        """Images of the first conditions, drawn through the steps `taken`, rising: DDIM with `eta`, else DDPM."""
        spec, bars, some = self.config.diffusion, cumulative(self.config.diffusion), slice(0, len(keys))
        x = self._noise(keys, spec.steps)
        for place in reversed(range(len(taken))):
            say(f"{'DDPM' if eta is None else 'DDIM'} in PyTorch, {place + 1} steps left")
            step = taken[place]
            formula = FormulaStep(spec, bars[step], bars[taken[place - 1]] if place else 1.0,
                                  (bars[taken[0]], bars[taken[1]]))
            output, spread = self.parts(self.output(x, [step] * len(keys), some).astype(np.float64))
            noise, exact = self._noise(keys, step).astype(np.float64), x.astype(np.float64)
            x = (formula.ddpm(exact, output, spread, noise, True) if eta is None else
                 formula.ddim(exact, output, noise, eta, True)).astype(np.float32)
        return x

    def parts(self, output: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """What the network gives, as its prediction and, where it learns it, the variance."""
        channels = self.config.channels
        return output[:, :channels], output[:, channels:] if self.config.learn_sigma else None

    def _noise(self, keys: NDArray[np.uint64], step: int) -> Images:
        return np.stack([normal_image(key, DRAWING, step, self.shape) for key in keys])
