"""PixelCNN++: against its formulas in NumPy, causality at every position, conditions, sizes, the start from data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pixelsnail_infer.errors import ModelError, RequestError
from pixelsnail_infer.models.pixelcnnpp import Deconv, PixelCNNpp, PixelCNNppConfig
from pixelsnail_infer.models.snail import initialise, original_names
from pixelsnail_infer.models.snail_layers import Normed

from .pixelcnnpp_reference import Array, Original

SMALL = PixelCNNppConfig(shape=(8, 12), nr_filters=3, nr_resnet=1, nr_logistic_mix=2)
VARIANTS = {
    "plain": SMALL,
    "relu": replace(SMALL, resnet_nonlinearity="relu", nr_resnet=2, shape=(8, 8)),
    "elu": replace(SMALL, resnet_nonlinearity="elu", nr_resnet=0, shape=(4, 12)),
    "grey": replace(SMALL, channels=1, shape=(12, 4)),
    "label": replace(SMALL, condition="label", n_label=3),
    "vector": replace(SMALL, condition="vector", n_label=3),
}


@pytest.fixture(params=list(VARIANTS))
def config(request: pytest.FixtureRequest) -> PixelCNNppConfig:
    return VARIANTS[request.param]


def build(config: PixelCNNppConfig) -> PixelCNNpp:
    """In float64, started from data, with every parameter moved a little."""
    torch.manual_seed(3)
    model = PixelCNNpp(config).double().eval()
    pixels, conditions = inputs(config, 4)
    initialise(model, pixels, **conditions)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def inputs(config: PixelCNNppConfig, batch: int) -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    levels = torch.randint(256, (batch, config.channels, *config.shape), generator=generator)
    conditions = {}
    if config.condition == "label":
        conditions["label"] = torch.randint(config.n_label, (batch,), generator=generator)
    elif config.condition == "vector":
        conditions["h"] = torch.rand(batch, config.n_label, generator=generator, dtype=torch.float64)
    return levels.double() / 127.5 - 1, conditions


def variables(model: PixelCNNpp) -> dict[str, Array]:
    """By the original's names, in its layouts."""
    parameters = dict(model.named_parameters())
    result = {}
    for path, name in original_names(model).items():
        values = parameters[path].detach().numpy()
        result[name] = values.transpose(2, 3, 1, 0) if name.endswith("V") else values
    return result


@torch.no_grad()
def test_equals_the_published_formulas(config: PixelCNNppConfig) -> None:
    model, (pixels, conditions) = build(config), inputs(config, 2)
    ours = model(pixels, **conditions).permute(0, 2, 3, 1).numpy()
    h = conditions["h"].numpy() if "h" in conditions else None
    h = np.eye(3)[conditions["label"].numpy()] if "label" in conditions else h
    theirs = Original(config, variables(model), h)
    np.testing.assert_allclose(ours, theirs(pixels.permute(0, 2, 3, 1).numpy()), rtol=0, atol=1e-12)
    assert {f"{kind}_{last}" for kind, last in theirs.counts.items()} <= {n.partition("/")[0] for n in theirs.values}
    assert sum(last + 1 for last in theirs.counts.values()) == len({n.partition("/")[0] for n in theirs.values})
    assert ours.std() > 0.1


@torch.no_grad()
def test_no_pixel_moves_its_own_or_an_earlier_prediction(config: PixelCNNppConfig) -> None:
    model, (pixels, conditions) = build(config), inputs(config, 2)
    base, (height, width) = model(pixels, **conditions), config.shape
    reach = torch.zeros(height * width, height * width, dtype=torch.bool)
    for p in range(height * width):
        changed = pixels.clone()
        changed[:, :, p // width, p % width] *= -0.9
        reach[p] = (model(changed, **conditions) - base).abs().amax(dim=(0, 1)).flatten() > 0
    assert not reach.tril().any()
    if config.resnet_nonlinearity == "relu":  # through which some pixels reach nothing
        return
    assert reach.diagonal(1)[torch.arange(1, height * width) % width > 0].all()  # the next in the row sees it
    assert reach.diagonal(width).all()  # and the one below


@torch.no_grad()
def test_images_are_independent_and_a_label_is_a_one_hot() -> None:
    hard, soft = build(VARIANTS["label"]), build(VARIANTS["vector"])
    pixels, _ = inputs(SMALL, 3)
    labels = torch.tensor([2, 0, 1])
    soft.load_state_dict(hard.state_dict())
    together = hard(pixels, label=labels)
    torch.testing.assert_close(together, soft(pixels, h=F.one_hot(labels, 3).double()), rtol=0, atol=0)
    torch.testing.assert_close(hard(pixels[1:2], label=labels[1:2]), together[1:2], rtol=0, atol=1e-12)
    assert not torch.allclose(hard(pixels, label=labels.flip(0)), together)
    torch.testing.assert_close(hard(pixels[:, :, :4], label=labels), together[:, :, :4], rtol=0, atol=1e-12)


@torch.no_grad()
def test_the_start_gives_every_layer_mean_0_and_its_deviation() -> None:
    torch.manual_seed(4)
    model = PixelCNNpp(replace(SMALL, shape=(8, 8))).double().eval()
    pixels = torch.rand(8, 3, 8, 8, dtype=torch.float64) * 2 - 1
    initialise(model, pixels)
    seen: list[tuple[Normed, Tensor]] = []
    for module in model.modules():
        if isinstance(module, Normed):
            module.register_forward_hook(lambda layer, given, out: seen.append((layer, out)))
    model(pixels)
    assert sum(isinstance(layer, Deconv) for layer, _ in seen) == 4
    for layer, out in seen:
        torch.testing.assert_close(out.mean(dim=(0, 2, 3)), torch.zeros_like(layer.b), rtol=0, atol=1e-9)
        deviation = out.std(dim=(0, 2, 3), correction=0)
        torch.testing.assert_close(deviation, torch.full_like(layer.b, layer.init_scale), rtol=0, atol=1e-3)


def test_the_published_network_has_its_known_size() -> None:
    with torch.device("meta"):
        parameters = list(PixelCNNpp(PixelCNNppConfig()).parameters())
    assert sum(parameter.numel() for parameter in parameters) == 53_659_080
    assert len(parameters) == 3 * (24 * 5 + 15 + 9 * 5 + 5 + 4)


def test_refuses() -> None:
    for wrong in ({"shape": (8, 10)}, {"shape": (0, 4)}, {"channels": 2}, {"nr_filters": 0}, {"nr_resnet": -1},
                  {"resnet_nonlinearity": "gelu"}, {"condition": "label"}, {"n_label": 2}, {"condition": "codes"},
                  {"dropout": 1.0}):  # fmt: skip
        with pytest.raises(ModelError):
            replace(SMALL, **wrong)  # type: ignore[arg-type]
    model, (pixels, _) = build(SMALL), inputs(SMALL, 1)
    for bad in (pixels[:, :1], pixels.long(), pixels[:, :, :6], pixels[:, :, :, :8], pixels[0]):
        with pytest.raises(RequestError):
            model(bad)
    label = build(VARIANTS["label"])
    for given in ({}, {"h": torch.zeros(1, 3)}, {"label": torch.zeros(1)}, {"label": torch.zeros(2, dtype=torch.long)}):
        with pytest.raises(RequestError):
            label(pixels, **given)
