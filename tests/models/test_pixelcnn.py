"""The conditional PixelCNN: the public code's steps by hand, causality, mixed classes, rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pixelsnail_infer.errors import ModelError, RequestError
from pixelsnail_infer.models.pixelcnn import PixelCNN, PixelCNNConfig

SMALL = PixelCNNConfig(shape=(5, 6), n_bins=4, n_features=6, n_layers=2, n_class=3, condition="vector")


@torch.no_grad()
def build(config: PixelCNNConfig) -> PixelCNN:
    """In float64 and eval mode, with batch statistics that are not the initial ones."""
    torch.manual_seed(2)
    model = PixelCNN(config).double().eval()
    for name, tensor in model.state_dict().items():
        if name.endswith(("running_mean", "batchnorm.bias")):
            tensor.normal_()
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
    return model


def inputs(batch: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    codes = torch.randint(4, (batch, 5, 6), generator=generator)
    return codes, torch.rand(batch, 3, generator=generator, dtype=torch.float64)


def by_hand(state: dict[str, Tensor], codes: Tensor, classes: Tensor) -> Tensor:
    """The published steps, from the state dict: masks written out, the second half fed its own input."""

    def masked(name: str, x: Tensor, *, centre: bool) -> Tensor:
        weight = state[name + ".weight"].clone()
        middle = weight.shape[2] // 2
        weight[:, :, middle, middle + centre :] = 0
        weight[:, :, middle + 1 :] = 0
        return F.conv2d(x, weight, state[name + ".bias"], padding=middle)

    def norm(name: str, x: Tensor) -> Tensor:
        parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts)

    def shortcut(name: str, x: Tensor) -> Tensor:
        return norm(f"{name}.1", F.conv2d(x, state[f"{name}.0.weight"], state[f"{name}.0.bias"]))

    def block(name: str, x: Tensor) -> Tensor:
        features = masked(name + ".conv", x, centre=True)
        if name + ".aux_shortcut.0.weight" in state:
            features = (features + shortcut(name + ".aux_shortcut", x)) / 2
        vector = F.linear(classes, state[name + ".y_embed.weight"], state[name + ".y_embed.bias"])[..., None, None]
        half = features.shape[1] // 2
        f = torch.tanh(features[:, :half] + vector[:, :half])
        g = torch.sigmoid(features[:, half:] + vector[:, half:])
        kept = shortcut(name + ".shortcut", x) if name + ".shortcut.0.weight" in state else x
        return kept + norm(name + ".batchnorm", f * g)

    grey = codes[:, None].double() / 3
    x = torch.cat([grey, torch.ones_like(grey)], dim=1)
    x = torch.relu(norm("layers.0.1", masked("layers.0.0", x, centre=False)))
    for layer in range(1, 5):
        x = block(f"layers.{layer}", x)
    return torch.log_softmax(x, dim=1)


@torch.no_grad()
def test_equals_the_published_steps() -> None:
    model = build(SMALL)
    codes, classes = inputs(3)
    expected = by_hand(model.state_dict(), codes, classes)
    torch.testing.assert_close(model(codes, h=classes), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(expected.exp().sum(dim=1), torch.ones(3, 5, 6, dtype=torch.float64))


@torch.no_grad()
def test_no_pixel_moves_its_own_or_an_earlier_prediction() -> None:
    model = build(SMALL)
    codes, classes = inputs(2)
    base = model(codes, h=classes)
    for p in range(30):
        changed = codes.clone()
        changed[:, p // 6, p % 6] = (changed[:, p // 6, p % 6] + 1) % 4
        moved = (model(changed, h=classes) - base).abs().amax(dim=(0, 1)).flatten()
        assert not moved[: p + 1].any()
        assert p == 29 or moved[p + 1 :].any()


@torch.no_grad()
def test_a_label_is_a_hard_class_vector() -> None:
    soft = build(SMALL)
    hard = PixelCNN(replace(SMALL, condition="label")).double().eval()
    hard.load_state_dict(soft.state_dict())
    codes, _ = inputs(3)
    labels = torch.tensor([2, 0, 1])
    torch.testing.assert_close(hard(codes, label=labels), soft(codes, h=F.one_hot(labels, 3).double()))


@torch.no_grad()
def test_one_image_and_the_first_rows_equal_their_part() -> None:
    model = build(SMALL)
    codes, classes = inputs(3)
    together = model(codes, h=classes)
    torch.testing.assert_close(model(codes[1:2], h=classes[1:2]), together[1:2], rtol=0, atol=1e-12)
    torch.testing.assert_close(model(codes[:, :2], h=classes), together[:, :, :2], rtol=0, atol=1e-12)


def test_state_dict_names_are_the_public_ones() -> None:
    names = set(PixelCNN(SMALL).state_dict())
    assert {"input_batchnorm.weight", "layers.0.0.mask", "layers.0.1.running_mean", "layers.1.conv.weight"} <= names
    assert {"layers.2.aux_shortcut.0.weight", "layers.4.shortcut.1.bias", "layers.4.y_embed.bias"} <= names
    assert not any(name.startswith(("layers.5", "layers.1.aux", "layers.1.shortcut")) for name in names)


@pytest.mark.parametrize("wrong", [{"n_bins": 1}, {"kernel": 4}, {"n_class": 0}, {"condition": None}, {"dropout": 1.0}])
def test_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        replace(SMALL, **wrong)


def test_requests_that_do_not_fit() -> None:
    model = build(SMALL)
    codes, classes = inputs(2)
    for given, conditions in (
        (codes, {}),
        (codes[:, :, :5], {"h": classes}),
        (codes.double(), {"h": classes}),
        (codes, {"h": classes[:, :2]}),
        (codes, {"h": classes.long()}),
        (codes, {"label": torch.tensor([0, 1])}),
    ):
        with pytest.raises(RequestError):
            model(given, **conditions)
