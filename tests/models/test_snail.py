"""The original PixelSNAIL: against its formulas in NumPy, causality at every position, borders, pooling, the start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pixelsnail_infer.errors import ModelError, RequestError
from pixelsnail_infer.models.snail import Snail, initialise, original_names, position_channels
from pixelsnail_infer.models.snail_config import NAMED, SnailConfig
from pixelsnail_infer.models.snail_layers import Conv, ShiftNin, causal_attention, earlier

from . import snail_reference as reference

SMALL: dict[str, Any] = {"shape": (4, 6), "attn_rep": 2, "nr_resnet": 1, "nr_filters": 8, "nr_mix": 2}
LABEL: dict[str, Any] = {"condition": "label", "n_class": 3}
VARIANTS = {
    **{name: replace(config, **SMALL) for name, config in NAMED.items()},
    "concat_elu": replace(NAMED["h8_noup_smallkey"], **SMALL, nonlinearity="concat_elu"),
    "grey": replace(NAMED["h12_pool2_smallkey"], **SMALL, channels=1, nonlinearity="relu"),
    "label": replace(NAMED["h12_noup_smallkey"], **SMALL, **LABEL),
    "embedding": replace(NAMED["h6_shift"], **SMALL, **LABEL, embedding=True, condition_size=5),
    "soft": replace(NAMED["h6_shift"], **SMALL, condition="vector", n_class=3, embedding=True, condition_size=5),
    "vector": replace(NAMED["h12_pool2_smallkey"], **SMALL, condition="vector", condition_size=4),
}


@pytest.fixture(params=list(VARIANTS))
def config(request: pytest.FixtureRequest) -> SnailConfig:
    return VARIANTS[request.param]


def inputs(config: SnailConfig, batch: int) -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    levels = torch.randint(256, (batch, config.channels, *config.shape), generator=generator)
    conditions = {}
    if config.condition == "label":
        conditions["label"] = torch.randint(config.n_class, (batch,), generator=generator)
    elif config.condition == "vector":
        conditions["h"] = torch.rand(batch, *config.condition_shapes["h"], generator=generator, dtype=torch.float64)
    return levels.double() / 127.5 - 1, conditions


def build(config: SnailConfig) -> Snail:
    """In float64, started from data, with every parameter moved a little."""
    torch.manual_seed(3)
    model = Snail(config).double().eval()
    pixels, conditions = inputs(config, 4)
    initialise(model, pixels, **conditions)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def variables(model: Snail) -> Iterator[dict[str, np.ndarray]]:
    """The parameters in the order in which the original makes and uses them, in its layout."""
    parameters = dict(model.named_parameters())
    hw: list[str] = []
    for path in original_names(model):
        layer, part = path.rpartition(".")[::2]
        if part == "hw":
            hw.append(path)
        elif part == "V":
            g, b = (parameters[f"{layer}.{name}"].detach().numpy() for name in "gb")
            yield {"V": parameters[path].detach().permute(2, 3, 1, 0).numpy(), "g": g, "b": b}
            if hw and layer.endswith((".conv2", ".conv2.nin")):  # the projection comes after the second convolution
                yield {"hw": parameters[hw.pop()].detach().numpy()}


@torch.no_grad()
def test_equals_the_formulas(config: SnailConfig) -> None:
    model = build(config)
    pixels, conditions = inputs(config, 2)
    h = model._hidden(conditions)
    expected = reference.Original(config, variables(model))(
        pixels.permute(0, 2, 3, 1).numpy(), None if h is None else h.numpy()
    )
    ours = model(pixels, **conditions).permute(0, 2, 3, 1).numpy()
    assert ours.shape == (2, *config.shape, config.n_params)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-11 * expected.std())


@torch.no_grad()
def test_no_pixel_moves_its_own_or_an_earlier_prediction(config: SnailConfig) -> None:
    model = build(config)
    pixels, conditions = inputs(config, 2)
    base, width = model(pixels, **conditions), config.shape[1]
    reached = torch.zeros(pixels[0, 0].numel(), dtype=torch.bool)
    for p in range(len(reached)):
        changed = pixels.clone()
        changed[:, :, p // width, p % width] += 0.25
        moved = (model(changed, **conditions) - base).abs().amax(dim=(0, 1)).flatten()
        assert not moved[: p + 1].any()
        reached |= moved > 0
    assert reached[1:].all()


@torch.no_grad()
def test_one_image_and_the_first_rows_equal_their_part(config: SnailConfig) -> None:
    model = build(config)
    pixels, conditions = inputs(config, 3)
    together = model(pixels, **conditions)
    one = model(pixels[1:2], **{name: value[1:2] for name, value in conditions.items()})
    torch.testing.assert_close(one, together[1:2], rtol=0, atol=1e-12)
    torch.testing.assert_close(model(pixels[:, :, :2], **conditions), together[:, :, :2], rtol=0, atol=1e-12)


@torch.no_grad()
def test_the_start_from_data(config: SnailConfig) -> None:
    """Every layer's result has mean 0 and deviation 1, or 0.1 before a gate."""
    torch.manual_seed(1)
    model = Snail(config).double().eval()
    pixels, conditions = inputs(config, 6)
    initialise(model, pixels, **conditions)
    seen: list[tuple[Conv, Tensor]] = []
    for module in model.modules():
        if isinstance(module, Conv):
            module.register_forward_hook(lambda layer, _, out: seen.append((layer, out)))
    model(pixels, **conditions)
    assert len(seen) == sum(isinstance(module, Conv) for module in model.modules())
    for layer, out in seen:
        spread = out.std(dim=(0, 2, 3), correction=0)
        alive = spread > 1e-3  # a channel may be dead under ReLU
        assert out.mean(dim=(0, 2, 3)).abs().max() < 1e-6
        assert (spread[alive] / layer.init_scale - 1).abs().max() < 1e-2


def test_trains(config: SnailConfig) -> None:
    """Every parameter that the output can depend on gets a gradient."""
    model = build(config)
    pixels, conditions = inputs(config, 2)
    model(pixels, **conditions).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_borders() -> None:
    """A shift after a convolution leaves 0 at the border, not the bias: the first feature is 0 for any pixels."""
    model = build(VARIANTS["h12_noup_smallkey"])
    pixels, _ = inputs(model.config, 1)
    padded = torch.cat([pixels, torch.ones_like(pixels[:, :1])], dim=1)
    features: list[Tensor] = []
    model.blocks[0].register_forward_pre_hook(lambda _, args: features.append(args[0]))
    with torch.no_grad():
        model(pixels)
        left, above = model.left(padded), model.above(padded)
    assert not features[0][:, :, 0, 0].any()
    torch.testing.assert_close(features[0][:, :, 0, 1:], left[:, :, 0, :-1])
    torch.testing.assert_close(features[0][:, :, 1:, 0], above[:, :, :-1, 0])


def test_shifted_quarters() -> None:
    """Right, down-right and down; the fourth move takes the second quarter, down-left, and the fourth is never read."""
    layer = ShiftNin(4, 4)
    with torch.no_grad():
        layer.nin.V.copy_(torch.eye(4).view(4, 4, 1, 1))
        layer.nin.g.fill_(1.0)
    x = torch.zeros(1, 4, 3, 3)
    x[0, :, 1, 1] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    expected = torch.zeros(1, 4, 3, 3)
    expected[0, 0, 1, 2], expected[0, 1, 2, 2], expected[0, 2, 2, 1], expected[0, 3, 2, 0] = 1.0, 2.0, 3.0, 2.0
    torch.testing.assert_close(layer(x), expected)


def test_pooled_mask_counts_blocks_that_are_past_as_a_whole() -> None:
    mask = earlier(4, 4, 2, torch.zeros(()))
    assert mask.shape == (16, 4)
    whole = earlier(4, 4, 1, torch.zeros(())).view(16, 2, 2, 2, 2).permute(0, 1, 3, 2, 4).reshape(16, 4, 4)
    torch.testing.assert_close(mask, whole.amin(dim=2))
    assert mask[5].sum() == 0 and mask[6].tolist() == [1, 0, 0, 0] and mask[8].tolist() == [1, 1, 0, 0]


def test_attention_at_position_0_is_exactly_0() -> None:
    query, key, value = (torch.randn(2, 3, 2, 3) for _ in range(3))
    out = causal_attention(query, key, value, earlier(2, 3, 1, query))
    assert not out[:, :, 0, 0].any()
    torch.testing.assert_close(out[:, :, 0, 1], value[:, :, 0, 0] / (1 + 1e-6))


def test_coordinates_repeat_for_every_colour() -> None:
    grid = position_channels(4, 5, 3)
    assert grid.shape == (1, 6, 4, 5)
    assert grid[0, 2, :, 0].tolist() == [-0.5, -0.25, 0.0, 0.25]
    torch.testing.assert_close(grid[0, 3:, 0], ((torch.arange(5) - 2.5) / 5).expand(3, 5))


def test_original_names_follow_the_original_order() -> None:
    names = list(original_names(Snail(VARIANTS["label"])).items())
    assert names[:3] == [("above.V", "conv2d_0/V"), ("above.g", "conv2d_0/g"), ("above.b", "conv2d_0/b")]
    table = dict(names)
    assert table["left.V"] == "conv2d_1/V" and table["blocks.0.resnets.0.conv2.V"] == "conv2d_3/V"
    assert table["blocks.0.content.g"] == "dense_2/g" and table["blocks.0.out.nin.V"] == "dense_7/V"
    assert table["blocks.1.out.hw"] == "conditional_weights_7/hw"
    assert table["out.b"] == "dense_18/b"


def test_named_configurations() -> None:
    sizes = {name: (c.attn_rep, c.keys, c.values, c.att_downsample, c.n_params) for name, c in NAMED.items()}
    assert sizes == {
        "h12_noup_smallkey": (12, 16, 128, 1, 100),
        "h8_noup_smallkey": (8, 16, 128, 1, 100),
        "h12_pool2_smallkey": (12, 16, 128, 2, 100),
        "h6_shift": (6, 128, 128, 1, 100),
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": 2},
        {"att_downsample": 3},
        {"att_downsample": 2, "shape": (3, 4)},
        {"convolution": "shift", "channels": 1},
        {"convolution": "shift", "nr_filters": 6},
        {"nonlinearity": "gelu"},
        {"condition": "label"},
        {"condition": "vector"},
        {"condition": "label", "n_class": 3, "condition_size": 4},
        {"condition": "codes"},
        {"nr_filters": 0},
        {"dropout": 1.0},
    ],
)
def test_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        SnailConfig(**wrong)


def test_requests_that_do_not_fit() -> None:
    model = build(VARIANTS["label"])
    pixels, conditions = inputs(model.config, 2)
    for bad, given in (
        (pixels[:, :1], conditions),
        (pixels[:, :, :, :3], conditions),
        (pixels, {}),
        (pixels, {"h": pixels[:, 0, 0]}),
        (pixels, {"label": conditions["label"].double()}),
        (pixels.long(), conditions),
    ):
        with pytest.raises(RequestError):
            model(bad, **given)
