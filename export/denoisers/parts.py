"""The two parts of a denoiser as modules of their own: the reverse step, and what the network is told of a step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pixelsnail_infer.denoiser import LABEL, LOW_RES, TIMES
from pixelsnail_infer.export.codecs.parts import BATCH, Half
from pixelsnail_infer.models.unet import UNet
from pixelsnail_infer.runtime.denoising.schedule import COEFFICIENTS

__all__ = ["STEP", "StepPart", "TimesPart", "part_of"]

STEP = "step"


class TimesPart(torch.nn.Module):
    """What the network is told of times and labels."""

    def __init__(self, module: UNet) -> None:
        super().__init__()
        self.module = module

    def forward(self, time: Tensor, label: Tensor | None = None) -> Tensor:
        """`[B]`, and int64 `[B]` of a model of classes, to `[B, told]`."""
        return self.module.projections(time, label)


class StepPart(torch.nn.Module):
    """One reverse step: the network, then the sums that `runtime/denoising/schedule.py` states."""

    def __init__(self, module: UNet) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, noise: Tensor, coefficients: Tensor, projections: Tensor,
                low_res: Tensor | None = None) -> tuple[Tensor, ...]:
        """Images and noise `[B, C, H, W]`, `[B, 9]`, `[B, told]`, and `[B, C, h, w]` of a super-resolution model, to
        the image a step earlier, the one without noise as predicted, and the logarithm of a learned variance."""
        a, b, limit, m_x0, m_x, m_o, n, n_v, s = coefficients[:, :, None, None, None].unbind(1)  # [B, 1, 1, 1] each
        result = self.module.denoise(x, projections, low_res)
        output, spread = result.split(self.module.config.channels, dim=1) if self.module.config.learn_sigma \
            else (result, None)
        x0 = torch.minimum(torch.maximum(a * x + b * output, -limit), limit)
        log_variance = n if spread is None else n + n_v * spread
        earlier = m_x0 * x0 + m_x * x + m_o * output + s * torch.exp(0.5 * log_variance) * noise
        return (earlier, x0) if spread is None else (earlier, x0, log_variance)


def part_of(module: UNet, name: str) -> Half:
    """The part "step" or "times", in eval mode, with a free batch."""
    config, batch = module.config, torch.export.Dim("B")
    free: dict[int, Any] = {0: batch}
    if name == TIMES:
        times: dict[str, Tensor] = {"time": torch.zeros(BATCH)}
        if config.classes is not None:
            times[LABEL] = torch.zeros(BATCH, dtype=torch.int64)
        return Half(TimesPart(module).eval(), tuple(times.values()), (free,) * len(times), tuple(times),
                    ("projections",))
    image = (BATCH, config.channels, *config.shape)
    given = {"x": torch.zeros(image), "noise": torch.zeros(image),
             "coefficients": torch.zeros(BATCH, len(COEFFICIENTS)), "projections": torch.zeros(BATCH, module.told)}
    if config.low_res is not None:
        given[LOW_RES] = torch.zeros(BATCH, config.channels, *config.low_res)
    results = ("x_prev", "x0", "log_variance") if config.learn_sigma else ("x_prev", "x0")
    return Half(StepPart(module).eval(), tuple(given.values()), (free,) * len(given), tuple(given), results)
