"""Pixels may change predictions of later positions only: every position is tried, in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from pixelsnail_infer.models import Prior, PriorConfig
from pixelsnail_infer.models.layers import CausalConv2d

Build = Callable[[PriorConfig], Prior]
Inputs = Callable[[PriorConfig, int], tuple[Tensor, dict[str, Tensor]]]


@torch.no_grad()
def moved(model: Prior, codes: Tensor, conditions: dict[str, Tensor]) -> Tensor:
    """bool [P, P]: whether changing the code at the row's position moves the logits at the column's."""
    height, width = codes.shape[1:]
    base = model(codes, **conditions)
    result = torch.zeros(height * width, height * width, dtype=torch.bool)
    for p in range(height * width):
        changed = codes.clone()
        changed[:, p // width, p % width] = (changed[:, p // width, p % width] + 1) % model.config.levels
        difference = (model(changed, **conditions) - base).abs().amax(dim=(0, 1))  # [H, W]
        result[p] = difference.flatten() > 1e-13
    return result


def test_no_code_moves_its_own_or_an_earlier_prediction(config: PriorConfig, build: Build, inputs: Inputs) -> None:
    codes, conditions = inputs(config, 2)
    seen = moved(build(config), codes, conditions)
    assert not seen.tril().any()


def test_attention_sees_far(tiny: PriorConfig, build: Build, inputs: Inputs) -> None:
    """Not everything: just after a row's end its last code is out of reach, as in the public code."""
    seen = moved(build(tiny), *inputs(tiny, 2))
    assert seen[0, 1:].all() and seen[:-1, -1].all()
    assert not seen[4, 5]
    without = moved(build(replace(tiny, attention=False, n_block=1, n_res_block=1)), *inputs(tiny, 2))
    assert not without[0, -1]


def test_the_check_catches_an_unmasked_convolution(tiny: PriorConfig, build: Build, inputs: Inputs) -> None:
    model = build(tiny)
    for module in model.modules():
        if isinstance(module, CausalConv2d):
            module.conv.conv.causal = False
    assert moved(model, *inputs(tiny, 2)).tril().any()


def test_one_image_equals_its_part_of_a_batch(config: PriorConfig, build: Build, inputs: Inputs) -> None:
    model = build(config)
    codes, conditions = inputs(config, 3)
    with torch.no_grad():
        together = model(codes, **conditions)
        for b in range(3):
            alone = model(codes[b : b + 1], **{name: value[b : b + 1] for name, value in conditions.items()})
            torch.testing.assert_close(alone[0], together[b], rtol=0, atol=1e-13)
    assert together.shape == (3, config.levels, *config.shape)


def test_conditions_matter(config: PriorConfig, build: Build, inputs: Inputs) -> None:
    model = build(config)
    codes, conditions = inputs(config, 1)
    for name in conditions:
        other = {**conditions, name: (conditions[name] + 1) % 3}
        with torch.no_grad():
            assert not torch.allclose(model(codes, **conditions), model(codes, **other))
