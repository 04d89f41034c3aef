"""Noise version 1. The golden numbers hold it still: if one of them changes, every seed means another image."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.noise import NOISE_VERSION, gumbel_row, image_keys, numbered_keys, uniform_row

GOLDEN_ZERO = [0.011546754286331562, 0.24154919656271823, 0.11142585551493822]
GOLDEN_LAST = [0.24722449808477232, 0.34507013680641385]
GOLDEN_SHA256 = "4d562676693d5dd23eae2e3d371bb04c1f29ce663f018cc07cb22488a8c65e61"
GOLDEN_GUMBEL = [
    [
        [-0.268963098526001, 2.0220110416412354, -1.0308738946914673],
        [-0.08262766152620316, 0.33871304988861084, 0.23323781788349152],
    ],
    [
        [-1.0766940116882324, 0.6523703336715698, -0.00592018011957407],
        [1.8885204792022705, 0.524695098400116, 1.2736979722976685],
    ],
]

SEEDS = st.integers(0, 2**64 - 1)


def test_golden_uniforms() -> None:
    assert NOISE_VERSION == 1
    assert uniform_row(image_keys(0, 1)[0], 0, 3).tolist() == GOLDEN_ZERO
    assert uniform_row(image_keys(2**64 - 1, 3)[2], 31, 2).tolist() == GOLDEN_LAST
    many = uniform_row(image_keys([1234], 1)[0], 5, 4096)
    assert hashlib.sha256(many.astype("<f8").tobytes()).hexdigest() == GOLDEN_SHA256


def test_golden_gumbels() -> None:
    noise = gumbel_row(image_keys(7, 2), 3, 2, 3)
    np.testing.assert_array_max_ulp(noise, np.array(GOLDEN_GUMBEL, np.float32), 1)


def test_keys() -> None:
    assert image_keys(5, 3).tolist() == [[5, 0], [5, 1], [5, 2]]
    assert image_keys([5, 2**64 - 1], 2).tolist() == [[5, 0], [2**64 - 1, 0]]
    assert image_keys(np.int64(5), 1).tolist() == image_keys(np.array([5]), 1).tolist() == [[5, 0]]


@given(SEEDS, st.integers(0, 1000))
def test_uniforms_are_strictly_inside(seed: int, row: int) -> None:
    values = uniform_row(image_keys(seed, 1)[0], row, 64)
    assert values.dtype == np.float64 and (values > 0).all() and (values < 1).all()


@pytest.mark.parametrize("raw", [0, 2**64 - 1])
def test_the_extreme_words_stay_inside(raw: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Extreme:
        def __init__(self, **_: object) -> None:
            pass

        def random_raw(self, count: int) -> np.ndarray:
            return np.full(count, raw, np.uint64)

    monkeypatch.setattr("numpy.random.Philox", Extreme)
    value = uniform_row(image_keys(0, 1)[0], 0, 1)[0]
    assert 0 < value < 1 and np.isfinite(gumbel_row(image_keys(0, 1), 0, 1, 1)).all()


@given(st.lists(SEEDS, min_size=2, max_size=4), st.integers(0, 40))
def test_an_image_does_not_depend_on_its_neighbours(seeds: list[int], row: int) -> None:
    keys = image_keys(seeds, len(seeds))
    together = gumbel_row(keys, row, 3, 5)
    for slot in range(len(seeds)):
        assert np.array_equal(gumbel_row(keys[slot : slot + 1], row, 3, 5)[0], together[slot])


def test_streams_differ_by_seed_image_and_row() -> None:
    streams = [gumbel_row(image_keys(s, 2)[k : k + 1], row, 4, 4) for s in (0, 1) for k in (0, 1) for row in (0, 1)]
    assert len({stream.tobytes() for stream in streams}) == 8


def test_out_is_written_and_returned() -> None:
    out = np.full((2, 3, 4), np.nan, np.float32)
    assert gumbel_row(image_keys(1, 2), 0, 3, 4, out=out) is out
    assert np.array_equal(out, gumbel_row(image_keys(1, 2), 0, 3, 4))


def test_gumbels_are_gumbel() -> None:
    noise = gumbel_row(image_keys(0, 8), 0, 64, 64).astype(np.float64)
    assert abs(noise.mean() - np.euler_gamma) < 0.02 and abs(noise.var() - np.pi**2 / 6) < 0.05


def test_no_global_generator_is_touched() -> None:
    before = np.random.get_state()[1].tolist()  # noqa: NPY002 - the state that must not move
    gumbel_row(image_keys(0, 2), 0, 2, 2)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, "1", None, True, [1], [1, 2.0], [1, -2], np.array([[1, 2]])])
def test_a_wrong_seed_is_refused(seed: object) -> None:
    with pytest.raises(RequestError, match="seed"):
        image_keys(seed, 2)  # type: ignore[arg-type]


def test_numbered_keys_are_some_of_those_of_a_seed() -> None:
    some = numbered_keys(2**64 - 1, 5, 3)
    assert some.dtype == np.uint64 and np.array_equal(some, image_keys(2**64 - 1, 8)[5:])
    given = image_keys(some, 3)
    assert np.array_equal(given, some) and given is not some
    with pytest.raises(RequestError, match="seed"):
        numbered_keys(2**64, 0, 1)


@pytest.mark.parametrize("seed", [np.zeros((3, 2), np.uint64), np.zeros((2, 2), np.int64), np.zeros((2, 3), np.uint64)])
def test_an_array_that_is_no_keys_is_refused(seed: np.ndarray) -> None:
    with pytest.raises(RequestError, match="seed"):
        image_keys(seed, 2)
