"""The categorical distribution in NumPy, and the slow reference of the filtered draw."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelsnail_infer.distributions import bits_per_dim, draw, kept, log_probability, log_softmax
from pixelsnail_infer.noise import gumbel_row, image_keys

P = np.array([0.1, 0.4, 0.2, 0.3])
LOGITS = np.log(P) + 3.0


def test_log_probabilities() -> None:
    assert np.allclose(log_softmax(LOGITS), np.log(P), atol=1e-15)
    assert np.allclose(log_softmax(np.float32([1000, 0, -1000]))[0], 0)
    codes = np.array([[1, 3]])
    assert np.allclose(log_probability(np.tile(LOGITS, (1, 2, 1)), codes), np.log([[0.4, 0.3]]))


def test_bits_per_dim() -> None:
    assert np.allclose(bits_per_dim(np.log(np.array([[[0.5, 0.25]], [[1.0, 1.0]]]))), [1.5, 0.0])


@pytest.mark.parametrize(
    "temperature, top_k, top_p, levels",
    [
        (1.0, None, None, [0, 1, 2, 3]),
        (1.0, 4, 1.0, [0, 1, 2, 3]),
        (1.0, 2, None, [1, 3]),
        (1.0, 1, 1.0, [1]),
        (1.0, None, 0.39, [1]),
        (1.0, None, 0.41, [1, 3]),
        (1.0, None, 0.95, [0, 1, 2, 3]),
        (1.0, 2, 0.56, [1]),  # after top-k, 0.4 of 0.7 is 0.571
        (1.0, 2, 0.58, [1, 3]),
        (1.0, None, 1e-30, [1]),
        (0.0, None, None, [1]),
        (1e-300, None, 0.5, [1]),
        (100.0, None, 0.49, [1, 3]),  # nearly uniform
    ],
)
def test_which_levels_stay(temperature: float, top_k: int | None, top_p: float | None, levels: list[int]) -> None:
    assert np.flatnonzero(kept(LOGITS, temperature, top_k, top_p)).tolist() == levels


def test_the_lower_level_wins_a_tie() -> None:
    assert np.flatnonzero(kept(np.zeros(5), 1.0, 2)).tolist() == [0, 1]
    assert draw(np.zeros(5), np.zeros(5), 1.0) == 0


def test_settings_broadcast_per_slot() -> None:
    masks = kept(np.tile(LOGITS, (3, 1)), [1.0, 1.0, 0.0], [4, 1, 4], [0.5, 1.0, 1.0])
    assert [np.flatnonzero(mask).tolist() for mask in masks] == [[1, 3], [1], [1]]


def test_draws_follow_the_distribution() -> None:
    noise = gumbel_row(image_keys(0, 8), 0, 2000, 4)
    for settings, expected in (({}, P), ({"top_k": 2}, np.array([0, 4 / 7, 0, 3 / 7]))):
        codes = draw(np.broadcast_to(LOGITS, noise.shape), noise, 1.0, **settings)
        assert codes.dtype == np.int64
        assert np.abs(np.bincount(codes.ravel(), minlength=4) / codes.size - expected).max() < 0.02


@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.3, 1.0, 5.0]), st.integers(1, 9), st.floats(0.01, 1.0))
def test_a_draw_is_always_kept(seed: int, temperature: float, top_k: int, top_p: float) -> None:
    noise = gumbel_row(image_keys(seed, 2), 0, 3, 9)
    logits = gumbel_row(image_keys(seed, 2), 1, 3, 9) * 3
    codes = draw(logits, noise, temperature, top_k, top_p)
    mask = kept(logits, temperature, top_k, top_p)
    assert np.take_along_axis(mask, codes[..., None], -1).all()
    assert (mask.sum(-1) <= top_k).all() and (mask.sum(-1) >= 1).all()
    if temperature == 0:
        assert np.array_equal(codes, logits.argmax(-1))
