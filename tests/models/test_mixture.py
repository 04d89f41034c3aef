"""The mixture of logistics: its probabilities sum to 1, the edges and the floor hold, draws follow them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.models.mixture import bits_per_dimension, draw, log_likelihood, round_to_grid, unpack

GRID = torch.arange(256, dtype=torch.float64) / 127.5 - 1


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def broad(count: int, mixtures: int, channels: int) -> Tensor:
    """Parameters [count, n_params, 1, 1] whose every bin is likelier than 1e-5."""
    generator = torch.Generator().manual_seed(count)
    params = torch.randn(count, (10 if channels == 3 else 3) * mixtures, 1, 1, generator=generator, dtype=torch.float64)
    kinds = params[:, mixtures:].view(count, channels, -1, mixtures)
    kinds[:, :, 0] *= 0.3
    kinds[:, :, 1] = kinds[:, :, 1] * 0.2 - 1.2
    return params


def test_one_colour_sums_to_1() -> None:
    params = broad(20, 4, 1).expand(-1, -1, 1, 256)
    total = log_likelihood(params, GRID.view(1, 1, 1, 256).expand(20, -1, -1, -1)).exp().sum(dim=2)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)


def test_three_colours_sum_to_1_with_4_bits() -> None:
    """All 16**3 colours of one pixel."""
    grid = torch.arange(16, dtype=torch.float64) / 7.5 - 1
    colours = torch.cartesian_prod(grid, grid, grid).T.reshape(1, 3, 1, 4096)
    params = broad(3, 3, 3).expand(-1, -1, 1, 4096)
    total = log_likelihood(params, colours.expand(3, -1, -1, -1), bits=4).exp().sum(dim=2)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)


def test_equals_the_formula() -> None:
    """One pixel by hand in NumPy: means moved by the colours before, a bin as a difference of sigmoids."""
    params, mixtures = broad(1, 3, 3), 3
    pixel = GRID[[30, 140, 255]]
    flat = params.flatten().numpy()
    weights = np.exp(flat[:mixtures]) / np.exp(flat[:mixtures]).sum()
    red, green, blue = flat[mixtures:].reshape(3, 3, mixtures)  # each: means, log-scales, coefficients
    r, g, b = pixel.numpy()
    means = [
        red[0],
        green[0] + np.tanh(red[2]) * r,
        blue[0] + np.tanh(green[2]) * r + np.tanh(blue[2]) * g,
    ]
    joint = weights.copy()
    for value, mean, log_scale in zip((r, g, b), means, (red[1], green[1], blue[1]), strict=True):
        high = 1.0 if value > 0.999 else sigmoid((value + 1 / 255 - mean) / np.exp(log_scale))
        joint *= high - sigmoid((value - 1 / 255 - mean) / np.exp(log_scale))
    ours = log_likelihood(params, pixel.view(1, 3, 1, 1))
    assert ours.item() == pytest.approx(math.log(joint.sum()), abs=1e-12)
    bits = bits_per_dimension(params, pixel.view(1, 3, 1, 1))
    assert bits.item() == pytest.approx(-math.log2(joint.sum()) / 3, abs=1e-12)


def test_below_1e_5_the_density_at_the_centre_counts() -> None:
    params = torch.tensor([0.0, 0.9, -4.0], dtype=torch.float64).view(1, 3, 1, 1)
    x, scale = GRID[100], math.exp(-4.0)
    z = (x.item() - 0.9) / scale
    expected = z - math.log(scale) - 2 * math.log1p(math.exp(z)) - math.log(127.5)
    assert log_likelihood(params, x.view(1, 1, 1, 1)).item() == pytest.approx(expected, abs=1e-12)


def test_the_floor_of_the_scale() -> None:
    pixel = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    low, floor = (torch.tensor([0.0, 0.01, s], dtype=torch.float64).view(1, 3, 1, 1) for s in (-20.0, -7.0))
    assert log_likelihood(low, pixel) == log_likelihood(floor, pixel)
    noise = torch.full((1, 1, 1, 1), 2.0, dtype=torch.float64)
    assert draw(low, noise, noise).item() == pytest.approx(0.01 + 2 * math.exp(-7))


def test_gradients_are_finite_far_away() -> None:
    params = torch.zeros(1, 10, 1, 256, dtype=torch.float64)
    params[:, 4:6], params[:, 1:3] = -30.0, 50.0
    params.requires_grad_()
    log_likelihood(params, GRID.expand(1, 3, 1, 256)).sum().backward()
    assert params.grad is not None and params.grad.isfinite().all()


def test_draws_follow_the_probabilities() -> None:
    """Chi-square over the 16 reds, greens and blues of 20,000 rounded draws; false alarm once in about 10**4 runs."""
    count, params = 20_000, broad(1, 3, 3)
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(count, 6, 1, 1, generator=generator, dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
    drawn = draw(params.expand(count, -1, -1, -1), -(-uniform[:, :3].log()).log(), uniform[:, 3:].logit(), bits=4)
    grid = torch.arange(16, dtype=torch.float64) / 7.5 - 1
    colours = torch.cartesian_prod(grid, grid, grid).T.reshape(1, 3, 1, 4096)
    expected = log_likelihood(params.expand(-1, -1, 1, 4096), colours, bits=4).exp().view(16, 16, 16) * count
    index = ((drawn + 1) * 7.5).round().long().flatten(1)  # [count, 3]
    for colour in range(3):
        found = torch.bincount(index[:, colour], minlength=16)
        wanted = expected.sum(dim=[axis for axis in range(3) if axis != colour])
        assert ((found - wanted) ** 2 / wanted).sum() < 46.0  # 15 degrees of freedom: 5.3e-5 lies beyond


def test_draw_is_clipped_and_rounded() -> None:
    params = broad(1, 2, 3)
    noise = torch.full((1, 3, 1, 1), 50.0, dtype=torch.float64)
    assert draw(params, noise[:, :2], noise).tolist() == [[[[1.0]]] * 3]
    value = draw(params, noise[:, :2] * 0, noise * 0.01, bits=8)
    torch.testing.assert_close(value, round_to_grid(value), rtol=0, atol=0)
    mean = draw(params, noise[:, :2], noise, temperature=0.0)
    mixture = unpack(params, 3)
    assert mean[0, 0].item() == mixture.means[0, 0, mixture.logits.argmax()].item()


def test_refuses_counts_that_do_not_fit() -> None:
    with pytest.raises(RequestError):
        unpack(torch.zeros(1, 12, 2, 2), 3)
    with pytest.raises(RequestError):
        unpack(torch.zeros(1, 10, 2, 2), 2)
