"""A tiny prior with dirty masked weights, and a way to write it to a file in any wrapping."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pixelsnail_infer.models import Prior, PriorConfig

TINY = PriorConfig(
    shape=(4, 6), levels=7, channel=32, kernel_size=5, n_block=2, n_res_block=1, res_channel=6, n_out_res_block=1
)
CONFIGS = {
    "top": TINY,
    "kernel_3": replace(TINY, kernel_size=3, n_res_block=3, n_out_res_block=0),
    "bottom": replace(TINY, attention=False, condition="codes", cond_res_block=2, cond_res_channel=5),
    "label": replace(TINY, condition="label", n_label=3, label_hidden=(4, 5, 6)),
    "no_blocks": replace(TINY, n_res_block=0),
}


@pytest.fixture
def tiny() -> PriorConfig:
    return TINY


@pytest.fixture(params=list(CONFIGS))
def config(request: pytest.FixtureRequest) -> PriorConfig:
    return CONFIGS[request.param]


@pytest.fixture
def bottom() -> PriorConfig:
    return CONFIGS["bottom"]


@pytest.fixture
def label() -> PriorConfig:
    return CONFIGS["label"]


@pytest.fixture
def build() -> Callable[[PriorConfig], Prior]:
    """A model in eval mode whose masked weights are not zero, as in saved files."""

    def make(config: PriorConfig) -> Prior:
        torch.manual_seed(2)
        return Prior(config).eval()

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[[object], Path]:
    def save(content: object) -> Path:
        path = tmp_path / "checkpoint.pt"
        torch.save(content, path)
        return path

    return save


@pytest.fixture
def logits() -> Callable[[Prior], Tensor]:
    """What a model gives for fixed random codes and conditions."""

    def run(model: Prior) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        config = model.config
        conditions = {
            name: torch.randint(3, (2, *shape), generator=generator) for name, shape in config.condition_shapes.items()
        }
        codes = torch.randint(config.levels, (2, *config.shape), generator=generator)
        with torch.no_grad():
            return model(codes, **conditions)

    return run
