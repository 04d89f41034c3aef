"""The mixture's probabilities: they sum to 1, and are those of the original's formula, in NumPy and in the graph."""

from __future__ import annotations

import math

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pixelsnail_infer.distributions import LogisticMixture, from_uint8, to_uint8
from pixelsnail_infer.distributions.grid import snap
from pixelsnail_infer.distributions.mixture import LOG_SMALL, bin_masses, channel_log_mass
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.mixture import emit_log_probability
from pixelsnail_infer.export.writing.onnx_writer import write_onnx
from pixelsnail_infer.models import mixture as in_torch

GRID = (np.arange(256) - 127.5) / 127.5  # in float64: rounded to float32 the bins do not quite tile
LAWS = [LogisticMixture(1, 1), LogisticMixture(4, 1), LogisticMixture(1, 3), LogisticMixture(5, 3)]
SEEDS = st.integers(0, 2**32 - 1)


def parameters(law: LogisticMixture, seed: int, count: int, low: float = -8.0, high: float = 2.0) -> np.ndarray:
    """Random parameters [count, n] with log-scales between `low` and `high`."""
    random = np.random.default_rng(seed)
    kinds = 3 if law.channels == 3 else 2
    rest = random.normal(size=(count, law.channels, kinds, law.n_mix)) * 0.7
    rest[:, :, 1] = random.uniform(low, high, (count, law.channels, law.n_mix))
    return np.concatenate([random.normal(size=(count, law.n_mix)) * 2, rest.reshape(count, -1)], axis=1)


def images(law: LogisticMixture, seed: int, count: int) -> np.ndarray:
    levels = np.random.default_rng(seed + 1).integers(0, 256, (count, law.channels), np.uint8)
    levels[: count // 8], levels[count // 8 : count // 4] = 0, 255
    return from_uint8(levels)


def original(law: LogisticMixture, l: np.ndarray, x: np.ndarray) -> np.ndarray:  # noqa: E741 - the original's name
    """`discretized_mix_logistic_loss` of neocxi/pixelsnail-public, sign turned, one pixel a row: l [n, …], x [n, C]."""
    def sigmoid(v: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-v))

    def softplus(v: np.ndarray) -> np.ndarray:
        return np.maximum(v, 0) + np.log1p(np.exp(-np.abs(v)))

    k, c = law.n_mix, law.channels
    logits, rest = l[:, :k], l[:, k:].reshape(len(l), c, -1)
    means, log_scales = rest[:, :, :k].copy(), np.maximum(rest[:, :, k : 2 * k], -7.0)
    if c == 3:
        coeffs = np.tanh(rest[:, :, 2 * k :])
        means[:, 1] += coeffs[:, 0] * x[:, :1]
        means[:, 2] += coeffs[:, 1] * x[:, :1] + coeffs[:, 2] * x[:, 1:2]
    x = x[:, :, None]
    inv_stdv = np.exp(-log_scales)
    plus_in, min_in, mid_in = (inv_stdv * (x - means + shift) for shift in (1 / 255, -1 / 255, 0))
    cdf_delta = sigmoid(plus_in) - sigmoid(min_in)
    log_pdf_mid = mid_in - log_scales - 2 * softplus(mid_in)
    inner = np.where(cdf_delta > 1e-5, np.log(np.maximum(cdf_delta, 1e-12)), log_pdf_mid - np.log(127.5))
    each = np.where(x < -0.999, plus_in - softplus(plus_in), np.where(x > 0.999, -softplus(min_in), inner))
    weights = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    joint = each.sum(1) + weights
    most = joint.max(1)
    return most + np.log(np.exp(joint - most[:, None]).sum(1))


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_it_is_the_formula_of_the_original(law: LogisticMixture) -> None:
    l, x = parameters(law, 3, 4000), images(law, 3, 4000).astype(np.float64)  # noqa: E741
    with np.errstate(over="ignore"):
        expected = original(law, l, x)
    found = law.log_probability(l, x)
    assert np.abs(found - expected).max() < 1e-8 * np.abs(expected).max()
    in_pytorch = in_torch.log_likelihood(torch.from_numpy(l)[..., None, None], torch.from_numpy(x)[..., None, None])
    assert np.abs(found - in_pytorch[:, 0, 0].numpy()).max() < 1e-8 * np.abs(expected).max()


@given(SEEDS, st.integers(1, 6))
def test_one_channel_sums_to_1(seed: int, n_mix: int) -> None:
    law = LogisticMixture(n_mix, 1)
    l = parameters(law, seed, 1, low=-1.5)  # noqa: E741
    parts = law.parts(l)
    _, _, inside, _ = bin_masses(GRID[:, None, None], parts.means, parts.log_scales)
    assume((inside > LOG_SMALL).all())
    total = np.exp(law.log_probability(np.repeat(l, 256, axis=0), GRID[:, None])).sum()
    assert abs(total - 1) < 1e-12


@given(st.floats(-7, 4), st.floats(-1.3, 1.3))
def test_the_approximation_costs_little(log_scale: float, centre: float) -> None:
    """A bin that the density stands for has at most 1e-5 either way, so that all are off by at most 256e-5."""
    mass = np.exp(channel_log_mass(GRID, np.float64(centre), np.float64(log_scale)))
    assert (mass >= 0).all() and abs(mass.sum() - 1) < 256e-5


@settings(max_examples=30)
@given(SEEDS)
def test_three_channels_sum_to_1(seed: int) -> None:
    """Summed over the last channel, then the one before, then the first: each sum leaves the channels before it."""
    law = LogisticMixture(3, 3)
    l = parameters(law, seed, 1, low=-1.0)  # noqa: E741
    parts, k = law.parts(l), law.n_mix
    weights = np.exp(l[:, :k]) / np.exp(l[:, :k]).sum()
    x = images(law, seed, 8)[4:5].astype(np.float64)

    def masses(pixels: np.ndarray) -> np.ndarray:  # [n, C, K]
        repeated = type(parts)(*(np.repeat(part, len(pixels), axis=0) for part in parts))
        return np.exp(channel_log_mass(pixels[..., None], law.centres(repeated, pixels), repeated.log_scales))

    for channel in (2, 1, 0):
        pixels = np.repeat(x, 256, axis=0)
        pixels[:, channel] = GRID
        every = masses(pixels)
        assume((every[:, channel] > 1.001e-5).all())
        partial = (weights * every[:, : channel + 1].prod(axis=1)).sum()
        assert partial == pytest.approx((weights * masses(x)[:, :channel].prod(axis=1)).sum(), rel=1e-12)
        if channel == 2:
            whole = np.exp(law.log_probability(np.repeat(l, 256, axis=0), pixels)).sum()
            assert whole == pytest.approx(partial, rel=1e-12)


def test_the_ends_reach_to_infinity() -> None:
    law = LogisticMixture(1, 1)
    for value, mean in ((-1.0, -30.0), (1.0, 30.0)):
        assert law.log_probability([0.0, mean, -3.0], [value]) == pytest.approx(0, abs=1e-12)
    assert law.log_probability([0.0, 0.0, 0.0], [-1.0]) == pytest.approx(-math.log1p(math.exp(1 - 1 / 255)))


@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize("precision, limit", [("float64", 1e-11), ("float32", 2e-6)])
def test_the_graph_has_the_same_likelihoods(law: LogisticMixture, precision: str, limit: float) -> None:
    l, x = (a.reshape(20, 100, -1).astype(precision) for a in (parameters(law, 5, 2000), images(law, 5, 2000)))  # noqa: E741
    g = GraphBuilder("likelihood", precision)
    values = [g.input("l", "float", ["B", 100, law.parameters]), g.input("x", "float", ["B", 100, law.channels])]
    g.output("y", emit_log_probability(g, *values, law), ["B", 100])
    data = write_onnx(g.graph(), {}).SerializeToString()
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"l": l, "x": x})
    expected = law.log_probability(l, x)
    narrow = np.exp(-law.parts(l.astype(np.float64)).log_scales).max((-1, -2))  # what a rounded mean is multiplied by
    assert (np.abs(found - expected) / (np.abs(expected) + narrow)).max() < limit


def test_bits_per_dimension_count_channels() -> None:
    logprob = np.full((2, 3, 4), -6 * math.log(2))
    assert LogisticMixture(2, 3).bits_per_dim(logprob).tolist() == pytest.approx([2.0, 2.0])
    assert LogisticMixture(2, 1).bits_per_dim(logprob).tolist() == pytest.approx([6.0, 6.0])


def test_the_grid() -> None:
    levels = np.arange(256, dtype=np.uint8)
    assert from_uint8(levels).dtype == np.float32 and from_uint8(levels)[[0, 255]].tolist() == [-1, 1]
    assert np.array_equal(to_uint8(from_uint8(levels)), levels)
    assert np.array_equal(snap(from_uint8(levels)), from_uint8(levels)), "to the bit"
    assert np.array_equal(from_uint8(levels), ((levels - 127.5) / 127.5).astype(np.float32)), "as the original rescales"
    assert to_uint8(np.array([np.nan, -2.0, 2.0, 0.01])).tolist() == [0, 0, 255, 129]
    for wrong in (np.zeros(3), [1]):
        with pytest.raises(RequestError, match="expected uint8"):
            from_uint8(wrong)
    with pytest.raises(RequestError, match="floating-point"):
        to_uint8(levels)


@pytest.mark.parametrize("n_mix, channels", [(0, 3), (3, 2), (3, 4)])
def test_other_mixtures_are_refused(n_mix: int, channels: int) -> None:
    with pytest.raises(RequestError, match="at least one mixture over 1 or 3 channels"):
        LogisticMixture(n_mix, channels)
