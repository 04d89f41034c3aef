"""Tiny priors with random weights, in float64 and eval mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pixelsnail_infer.models import Prior, PriorConfig

TINY = PriorConfig(
    shape=(4, 5), levels=7, channel=8, kernel_size=3, n_block=2, n_res_block=2, res_channel=6, n_head=2, dropout=0.1
)
VARIANTS = {
    "attention": TINY,
    "wide_kernel": replace(TINY, kernel_size=5, n_out_res_block=1),
    "inplace": replace(TINY, elu_inplace=True, n_out_res_block=1),
    "no_attention": replace(TINY, attention=False),
    "label": replace(TINY, condition="label", n_label=3, label_hidden=(4, 4, 4)),
    "codes": replace(
        TINY, shape=(4, 6), attention=False, condition="codes", cond_res_block=2, cond_res_channel=5, elu_inplace=True
    ),
}


@pytest.fixture(params=list(VARIANTS))
def config(request: pytest.FixtureRequest) -> PriorConfig:
    return VARIANTS[request.param]


@pytest.fixture
def tiny() -> PriorConfig:
    return TINY


@pytest.fixture
def build() -> Callable[[PriorConfig], Prior]:
    def make(config: PriorConfig) -> Prior:
        torch.manual_seed(3)
        return Prior(config).double().eval()

    return make


@pytest.fixture
def inputs() -> Callable[[PriorConfig, int], tuple[Tensor, dict[str, Tensor]]]:
    """Random codes and conditions for a batch."""

    def make(config: PriorConfig, batch: int) -> tuple[Tensor, dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(5)
        highest = {"label": config.n_label, "condition": config.levels}
        conditions = {
            name: torch.randint(highest[name], (batch, *shape), generator=generator)
            for name, shape in config.condition_shapes.items()
        }
        return torch.randint(config.levels, (batch, *config.shape), generator=generator), conditions

    return make
