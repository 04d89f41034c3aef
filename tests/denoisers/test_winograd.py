"""Winograd's form of the step's convolutions: the same function with half the products, only where that pays."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pixelsnail_infer.export.denoisers import forms, winograd
from pixelsnail_infer.export.denoisers.winograd import WinogradConvolution, pays
from pixelsnail_infer.models.unet_layers import Upsample

from .networks import network


@pytest.mark.parametrize("height, width", [(4, 4), (8, 3), (16, 5)])
def test_the_form_is_the_convolution(height: int, width: int) -> None:
    torch.manual_seed(0)
    conv, x = nn.Conv2d(5, 7, 3, padding=1).double(), torch.randn(2, 5, height, width, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(WinogradConvolution(conv, height)(x), conv(x), atol=1e-13)


def test_it_rounds_little() -> None:
    torch.manual_seed(0)
    conv, x = nn.Conv2d(64, 64, 3, padding=1), torch.randn(2, 64, 16, 16)
    with torch.no_grad():
        apart = (WinogradConvolution(conv, 16)(x) - conv.double()(x.double())).abs().max()
    assert apart < 1e-5


@pytest.mark.parametrize("conv, height, expected", [
    (nn.Conv2d(128, 128, 3, padding=1), 32, True), (nn.Conv2d(256, 256, 3, padding=1), 16, True),
    (nn.Conv2d(192, 192, 3, padding=1), 64, True),
    (nn.Conv2d(256, 256, 3, padding=1), 8, False),  # its transforms are too small to be quick
    (nn.Conv2d(256, 256, 3, padding=1), 18, False), (nn.Conv2d(128, 128, 3, padding=1), 256, False),
    (nn.Conv2d(128, 6, 3, padding=1), 32, False), (nn.Conv2d(3, 128, 3, padding=1), 32, False),
    (nn.Conv2d(128, 128, 3, padding=1, stride=2), 32, False), (nn.Conv2d(128, 128, 1), 32, False),
    (nn.Conv1d(128, 128, 3, padding=1), 32, False)])
def test_where_it_pays(conv: nn.Module, height: int, expected: bool) -> None:
    assert pays(conv, height) is expected


def test_the_network_has_it_where_it_pays_and_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the limits so low that a small network has it: 8 rows and 4 rows, but not what is enlarged."""
    monkeypatch.setattr(winograd, "SHORTEST", 4)
    module = network(mult=(1, 2), n_res_block=1).double()
    x, low_res = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    given = torch.tensor([3.0, 999.0], dtype=torch.float64), torch.tensor([0, 2]), low_res
    form = forms.graph_form(module)
    found = [layer for layer in form.modules() if isinstance(layer, WinogradConvolution)]
    assert sorted(layer.tiles for layer in found) == [1] * 10 + [2] * 6
    assert not any(isinstance(layer, Upsample) for layer in form.modules())
    assert torch.allclose(form(x, *given), module(x, *given), atol=1e-12)
