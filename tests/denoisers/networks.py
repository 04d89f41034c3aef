"""Small denoisers with random weights, and state dicts as the public code saves them."""

from __future__ import annotations

from typing import Any

import torch

from pixelsnail_infer.denoiser import DiffusionSpec
from pixelsnail_infer.models.unet import UNet
from pixelsnail_infer.models.unet_config import UNetConfig

SPEC = DiffusionSpec(40, "cosine", "eps", "learned-range", True)


def config(**changes: Any) -> UNetConfig:
    """Two levels, four by four small pictures, three classes, a learned variance."""
    usual: dict[str, Any] = {
        "shape": (8, 8), "channels": 3, "width": 32, "mult": (1, 2), "n_res_block": 1, "attention": (1,), "n_head": 2,
        "classes": 3, "low_res": (4, 4), "learn_sigma": True, "scale_shift": True, "diffusion": SPEC}
    return UNetConfig(**{**usual, **changes})


def network(**changes: Any) -> UNet:
    """The same weights every time, at which all layers matter."""
    torch.manual_seed(1)
    return UNet(config(**changes)).eval().requires_grad_(False)
