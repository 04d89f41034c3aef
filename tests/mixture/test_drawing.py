"""The mixture's draw: its noise, its histogram, and the same in the graph."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixelsnail_infer.distributions import LogisticMixture, from_uint8, to_uint8
from pixelsnail_infer.distributions.mixture import HALF_BIN
from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.draw import emit_draw
from pixelsnail_infer.export.writing.onnx_writer import write_onnx
from pixelsnail_infer.models import mixture as in_torch
from pixelsnail_infer.noise import gumbel_row, image_keys, mixture_row, uniform_row

from .test_likelihood import GRID, LAWS, parameters

GOLDEN = [
    [[-0.268963098526001, 2.0220110416412354, -2.7408499717712402],
     [-0.08262766152620316, 0.33871304988861084, -0.18873944878578186]],
    [[-1.0766940116882324, 0.6523703336715698, -0.5506904721260071],
     [1.8885204792022705, 0.524695098400116, 1.1305129528045654]],
]  # fmt: skip
ALARM = 3.719  # standard deviations: a one-sided false-alarm rate of 1e-4 for each chi-square test, at a free seed


def test_golden_noise() -> None:
    np.testing.assert_array_max_ulp(mixture_row(image_keys(7, 2), 3, 2, 2, 1), np.array(GOLDEN, np.float32), 1)


@given(st.integers(0, 2**64 - 1), st.integers(1, 5), st.sampled_from([1, 3]))
def test_noise_comes_from_the_stream_in_order(seed: int, n_mix: int, channels: int) -> None:
    keys, width = image_keys(seed, 2), 3
    noise, count = mixture_row(keys, 4, width, n_mix, channels), n_mix + channels
    assert noise.dtype == np.float32 and noise.shape == (2, width, count)
    assert np.array_equal(noise[..., :n_mix], gumbel_row(keys, 4, width, count)[..., :n_mix])
    uniforms = 1e-5 + (1 - 2e-5) * uniform_row(keys[1], 4, width * count).reshape(width, count)[:, n_mix:]
    assert np.allclose(noise[1, :, n_mix:], np.log(uniforms / (1 - uniforms)), atol=1e-6)
    assert np.abs(noise[..., n_mix:]).max() < 11.6
    out = np.empty_like(noise)
    assert mixture_row(keys, 4, width, n_mix, channels, out) is out and np.array_equal(out, noise)


def excess(found: np.ndarray, expected: np.ndarray) -> float:
    """A chi-square statistic in standard deviations (Wilson and Hilferty 1931); cells of less than 5 are joined."""
    order = np.argsort(expected)
    joined = np.cumsum(expected[order]) // 5
    cells = np.unique(joined, return_inverse=True)[1]
    seen, wanted = (np.bincount(cells, values[order]) for values in (found, expected))
    freedom = len(seen) - 1
    statistic = ((seen - wanted) ** 2 / np.maximum(wanted, 1e-9)).sum()
    spread = 2 / (9 * freedom)
    return float(((statistic / freedom) ** (1 / 3) - (1 - spread)) / np.sqrt(spread))


@pytest.mark.parametrize("seed", range(4))
def test_the_histogram_is_that_of_the_probabilities(seed: int) -> None:
    law, n = LogisticMixture(3, 1, round=True), 200_000
    l = parameters(law, seed, 1, low=-4, high=0)  # noqa: E741
    noise = mixture_row(image_keys(seed, 1), 0, n, 3, 1)[0]
    drawn = law.draw(np.repeat(l, n, axis=0), noise, np.ones(n))
    found = np.bincount(to_uint8(drawn)[:, 0], minlength=256)
    expected = n * np.exp(law.log_probability(np.repeat(l, 256, axis=0), GRID[:, None]))
    assert excess(found, expected) < ALARM
    assert excess(np.roll(found, 1), expected) > 10, "the test sees a shift by one level"


@pytest.mark.parametrize("seed", range(3))
def test_every_channel_follows_those_before_it(seed: int) -> None:
    """Each channel's place in its conditional distribution, spread evenly within its bin, is uniform."""
    law, n = LogisticMixture(3, 3, round=True), 100_000
    l = parameters(law, seed, 1, low=-3, high=-1)  # noqa: E741
    drawn = law.draw(np.repeat(l, n, axis=0), mixture_row(image_keys(seed, 1), 1, n, 3, 3)[0], np.ones(n))
    parts = law.parts(np.repeat(l, n, axis=0))
    centres, x = law.centres(parts, drawn.astype(np.float64)), drawn.astype(np.float64)[..., None]
    ends = [1 / (1 + np.exp(-(x + side * HALF_BIN - centres) * np.exp(-parts.log_scales))) for side in (-1, 1)]
    low, high = np.where(x < -0.999, 0, ends[0]), np.where(x > 0.999, 1, ends[1])
    belief = np.exp(parts.logits) / np.exp(parts.logits).sum(-1, keepdims=True)  # which component, so far
    within = np.random.default_rng(seed).random((n, 3))
    for channel in range(3):
        start, end = ((belief * edge[:, channel]).sum(-1) for edge in (low, high))
        place = start + within[:, channel] * (end - start)
        assert excess(np.histogram(place, 64, (0, 1))[0].astype(float), np.full(64, n / 64)) < ALARM
        belief = belief * (high - low)[:, channel]
        belief /= belief.sum(-1, keepdims=True)


@pytest.mark.parametrize("law", [*LAWS, LogisticMixture(3, 3, round=True)], ids=str)
def test_the_graph_and_pytorch_draw_the_same(law: LogisticMixture) -> None:
    n, width, col = 500, 3, 2
    l = parameters(law, 8, n, high=1).astype(np.float32)  # noqa: E741
    noise = np.repeat(mixture_row(image_keys(0, 1), 0, n, law.n_mix, law.channels)[0][:, None], width, axis=1)
    noise[:, [0, 1]] = 0
    heat = np.random.default_rng(0).choice([0.0, 0.5, 1.0], n).astype(np.float32)
    given = np.full((n, width, law.channels), 0.25, np.float32)
    use = np.zeros((n, width), bool)
    use[::5, col] = True
    g = GraphBuilder("draw")
    logits = g.input("l", "float", ["B", law.parameters])
    pixel = emit_draw(g, logits, g.input("col", "int", [1]), width, law, filtered=False)
    g.output("pixel", pixel, ["B", law.channels])
    session = ort.InferenceSession(write_onnx(g.graph(), {}).SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"noise": noise, "temperature": heat, "given": given, "use_given": use, "l": l, "col": np.array([col])}
    (found,) = session.run(None, feeds)
    expected = law.draw(l, noise[:, col], heat)
    assert (found[::5] == 0.25).all() and found.dtype == expected.dtype == np.float32
    free = np.arange(n) % 5 > 0
    assert np.abs(found - expected)[free].max() < 1e-6
    if law.round:
        assert np.array_equal(found[free], from_uint8(to_uint8(found[free]))), "on the grid to the bit"
    split = [torch.from_numpy(part)[..., None, None] for part in np.split(noise[:, col], [law.n_mix], axis=1)]
    in_pytorch = in_torch.draw(
        torch.from_numpy(l)[..., None, None], *split, temperature=torch.from_numpy(heat)[:, None, None, None],
        bits=8 if law.round else None,
    )  # fmt: skip
    assert np.abs(in_pytorch[..., 0, 0].numpy() - expected).max() < 1e-5


def test_temperature_0_is_the_mean_of_the_most_probable_component() -> None:
    law = LogisticMixture(2, 3)
    rest = np.zeros((3, 3, 2), np.float32)  # channel, kind, component
    rest[:, 0, 1], rest[:, 2, 1] = [0.5, 0.25, 3.0], [np.inf, 0.0, np.inf]  # tanh: coefficients 1, 0, 1
    l = np.concatenate([[0.0, 1.0], rest.ravel()])  # noqa: E741
    assert law.draw(l, np.full(5, 3.0), 0.0).tolist() == [0.5, 0.75, 1.0]
    assert law.draw(l, [9.0, 0.0, 0.0, 0.0, 0.0], 1.0).tolist() == [0.0, 0.0, 0.0], "a Gumbel chooses the other"
