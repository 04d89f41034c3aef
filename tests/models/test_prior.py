"""The whole network: its names, its borders, its training path, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pixelsnail_infer.errors import ModelError, RequestError
from pixelsnail_infer.models import Prior, PriorConfig
from pixelsnail_infer.models.prior import coordinates

Build = Callable[[PriorConfig], Prior]
Inputs = Callable[[PriorConfig, int], tuple[Tensor, dict[str, Tensor]]]


def test_names_are_those_of_the_public_files(tiny: PriorConfig) -> None:
    names = set(Prior(replace(tiny, condition="label", n_label=3, label_hidden=(4,), n_out_res_block=1)).state_dict())
    for stem in (
        "horizontal.conv.conv",
        "vertical.conv.conv",
        "blocks.0.resblocks.1.conv2.conv.conv",
        "blocks.1.key_resblock.conv1.conv",
        "blocks.1.query_resblock.conv2.conv",
        "blocks.1.causal_attention.value",
        "blocks.1.out_resblock.aux_conv.conv",
        "out.0.conv1.conv",
        "out.2.conv",
    ):
        assert {f"{stem}.bias", f"{stem}.weight_g", f"{stem}.weight_v"} <= names
    assert {"background", "embedNet.blocks.1.weight", "blocks.0.resblocks.0.condition.conv.weight_v"} <= names
    assert "blocks.0.resblocks.0.condition.conv.bias" not in names
    codes = PriorConfig((4, 4), 5, channel=4, attention=False, condition="codes", cond_res_block=1, cond_res_channel=3)
    names = set(Prior(codes).state_dict())
    assert {"cond_resnet.blocks.0.conv.weight_v", "cond_resnet.blocks.1.conv2.conv.bias"} <= names
    assert "blocks.0.out.conv.weight_g" in names


def test_the_stock_priors_have_their_known_sizes() -> None:
    with torch.device("meta"):
        top = Prior(PriorConfig(shape=(32, 32), levels=512))
        codes = PriorConfig((64, 64), 512, attention=False, condition="codes", cond_res_block=3, cond_res_channel=256)
        bottom = Prior(codes)
    assert sum(parameter.numel() for parameter in top.parameters()) == 84_873_280
    assert sum(parameter.numel() for parameter in bottom.parameters()) == 89_762_816


def test_coordinates_are_centred_and_divided_by_the_size() -> None:
    background = coordinates(4, 5)
    torch.testing.assert_close(background[0, 0, :, 2], torch.tensor([-0.5, -0.25, 0.0, 0.25]))
    torch.testing.assert_close(background[0, 1, 3], torch.tensor([-0.5, -0.3, -0.1, 0.1, 0.3]))


def test_the_first_layer_is_zero_in_the_corner(tiny: PriorConfig, build: Build, inputs: Inputs) -> None:
    """At position 0 neither stack has seen anything: no bias of the first layer may reach the logits there."""
    model = build(tiny)
    codes, _ = inputs(tiny, 1)
    before = model(codes)
    with torch.no_grad():
        model.horizontal.conv.conv.bias.add_(3.0)
        model.vertical.conv.conv.bias.add_(3.0)
    after = model(codes)
    torch.testing.assert_close(after[:, :, 0, 0], before[:, :, 0, 0], rtol=0, atol=0)
    assert not torch.allclose(after[:, :, 0, 1], before[:, :, 0, 1])


def test_an_inplace_elu_changes_what_the_keys_read(tiny: PriorConfig, build: Build, inputs: Inputs) -> None:
    codes, _ = inputs(tiny, 1)
    plain, inplace = build(tiny), build(replace(tiny, elu_inplace=True))
    assert not torch.allclose(plain(codes), inplace(codes))
    right = inplace(codes)
    for block in inplace.blocks:
        block.overwrites_input = False
    assert not torch.allclose(inplace(codes), right)


def test_label_maps_have_no_nonlinearity(tiny: PriorConfig, build: Build) -> None:
    config = replace(tiny, condition="label", n_label=3, label_hidden=(4, 4, 4))
    net = build(config).embedNet
    zero, one, two = net(torch.zeros(1, 3).double()), *net(torch.eye(3).double())[:2]
    torch.testing.assert_close(net(torch.tensor([[1.0, 1.0, 0.0]]).double())[0], one + two - zero[0])


def test_training_reaches_every_parameter(config: PriorConfig, inputs: Inputs) -> None:
    torch.manual_seed(0)
    model = Prior(config).train()
    codes, conditions = inputs(config, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(8):
        loss = F.cross_entropy(model(codes, **conditions), codes)
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_dropout_acts_in_training_only(tiny: PriorConfig, build: Build, inputs: Inputs) -> None:
    model = build(replace(tiny, dropout=0.5))
    codes, _ = inputs(tiny, 1)
    assert torch.equal(model(codes), model(codes))
    model.train()
    assert not torch.equal(model(codes), model(codes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel_size": 4}, "kernel_size is 4; it must be odd"),
        ({"kernel_size": 1}, "odd and 3 or more"),
        ({"n_head": 3}, "3 heads do not divide"),
        ({"levels": 0}, "levels is 0"),
        ({"n_block": -1}, "n_block is -1"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"condition": "label"}, "n_label"),
        ({"condition": "words"}, "'words'"),
        ({"condition": "codes"}, "cond_res_channel"),
        ({"condition": "codes", "cond_res_channel": 4}, "--upsample"),
    ],
)
def test_impossible_configurations_are_refused(tiny: PriorConfig, change: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        replace(tiny, **change)


def test_a_canvas_of_another_size_is_refused(tiny: PriorConfig, build: Build) -> None:
    with pytest.raises(RequestError, match=r"trained for \['B', 4, 5\] only"):
        build(tiny)(torch.zeros(1, 5, 5, dtype=torch.int64))


def test_wrong_inputs_are_refused(tiny: PriorConfig, build: Build) -> None:
    model = build(replace(tiny, condition="label", n_label=3))
    codes, label = torch.zeros(2, 4, 5, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    assert model(codes, label=label).shape == (2, 7, 4, 5)
    with pytest.raises(RequestError, match="takes codes, label, but it was given codes;"):
        model(codes)
    with pytest.raises(RequestError, match="given codes, condition"):
        model(codes, condition=label)
    with pytest.raises(RequestError, match="label has shape"):
        model(codes, label=label[:1])
    with pytest.raises(RequestError, match="dtype torch.float32"):
        model(codes.float(), label=label)
