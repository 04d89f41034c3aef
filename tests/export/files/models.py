"""Small priors with random weights, exported once for the whole run, and what the tests ask of them."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsnail_infer.distributions import Categorical
from pixelsnail_infer.export.compile import Compiled, compile_model
from pixelsnail_infer.export.exporting import export_model
from pixelsnail_infer.export.proofs.reference import Reference
from pixelsnail_infer.export.tracing.trace import InputSpec
from pixelsnail_infer.manifest import ConditionSpec
from pixelsnail_infer.models import Prior, PriorConfig
from pixelsnail_infer.noise import gumbel_row, image_keys

SMALL = PriorConfig(
    shape=(5, 7), levels=7, channel=8, kernel_size=3, n_block=2, n_res_block=1, res_channel=6, n_head=2, dropout=0.1
)
CONFIGS = {
    "attention": SMALL,
    "wide_kernel": replace(SMALL, kernel_size=5, n_out_res_block=1, n_block=1, n_res_block=2),
    "tall": replace(SMALL, shape=(7, 3), elu_inplace=True, n_out_res_block=1),
    "no_attention": replace(SMALL, attention=False, shape=(3, 8), kernel_size=5, res_channel=8),
    "label": replace(SMALL, condition="label", n_label=3, label_hidden=(4, 4), shape=(4, 4)),
    "codes": replace(
        SMALL, shape=(4, 6), attention=False, condition="codes", cond_res_block=1, cond_res_channel=5, elu_inplace=True
    ),
    "codes_attention": replace(SMALL, shape=(6, 4), condition="codes", cond_res_channel=3, kernel_size=5, n_block=1),
    "one_row": replace(SMALL, shape=(1, 6), attention=False),
}


def prior(name: str) -> Prior:
    """Random weights, the same at every call, with logits of a spread that makes draws depend on them."""
    torch.manual_seed(sum(map(ord, name)))
    model = Prior(CONFIGS[name]).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("bias"):
                parameter.normal_(std=0.3)  # so that a bias in the wrong place shows
            elif key.endswith("weight_g"):
                parameter.mul_(1.5)
    return model.requires_grad_(False)


def conditions(config: PriorConfig) -> tuple[ConditionSpec, ...]:
    levels = {"label": config.n_label, "condition": config.levels}
    return tuple(ConditionSpec(name, "codes" if shape else "class", shape, "int64", levels[name])
                 for name, shape in config.condition_shapes.items())


def compiled(name: str) -> Compiled:
    config = CONFIGS[name]
    specs = conditions(config)
    inputs = [InputSpec("pixels", config.shape, torch.int64, config.levels)]
    inputs += [InputSpec(spec.name, spec.shape, torch.int64, spec.levels) for spec in specs]

    def forward(model: Any, pixels: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        return model(pixels, **dict(zip([spec.name for spec in specs], given, strict=True)))

    return compile_model(prior(name), forward, tuple(inputs), config.shape)


@functools.cache
def reference(name: str) -> Reference:
    config = CONFIGS[name]
    return Reference(prior(name), None, config.shape, Categorical(config.levels), conditions(config))


def export(name: str, target: Path, say: Callable[[str], None] = lambda line: None) -> Any:
    config = CONFIGS[name]
    return export_model(prior(name), target, levels=config.levels, shape=config.shape, conditions=conditions(config),
                        say=say)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@functools.cache
def exported(name: str) -> Path:
    """The step file of the model's verified export; read only."""
    target = Path(_folder().name) / f"{name}.onnx"
    export(name, target)
    return target


def noise(config: PriorConfig, seed: int, n: int) -> NDArray[np.float32]:
    """The noise that `sample(n, seed=seed)` uses, [n, H, W, L]."""
    keys, (height, width) = image_keys(seed, n), config.shape
    return np.stack([gumbel_row(keys, i, width, config.levels) for i in range(height)], axis=1)
