"""The files that an export leaves, through the runtime, against PyTorch: logits, likelihoods, draws, everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from pixelsnail_infer.distributions import draw, log_probability
from pixelsnail_infer.runtime import Sampler

from .models import CONFIGS, noise, reference

CLOSE, LAST_BITS = 1e-4, 2e-6  # of the logits' standard deviation
WHOLE_VECTORS = ("no_attention",)  # every width that is activated is a multiple of 8: no last few numbers


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_replay_and_score(name: str, sampler: Sampler, batch: int) -> None:
    codes, given = reference(name).inputs(batch, batch)
    logits = reference(name).logits(codes, given)
    assert logits.std() > 0.05
    assert np.abs(sampler.replay(codes, **given) - logits).max() < CLOSE * logits.std()
    assert np.abs(sampler.score(codes, **given) - log_probability(logits, codes)).max() < CLOSE * logits.std()


def test_a_step_run_twice_changes_nothing(name: str, sampler: Sampler) -> None:
    codes, given = reference(name).inputs(2, 9)
    assert np.array_equal(sampler.replay(codes, twice=True, **given), sampler.replay(codes, **given))


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0, [0.0, 1.0, 2.5, 0.3, 1.0]])
def test_every_draw_is_that_of_pytorch(name: str, sampler: Sampler, temperature: float | list[float]) -> None:
    _, given = reference(name).inputs(5, 4)
    codes = sampler.sample(5, seed=11, temperature=temperature, **given)
    heat = np.broadcast_to(np.float32(temperature), 5)[:, None, None]
    logits = reference(name).logits(codes, given)
    assert np.array_equal(codes, draw(logits, noise(CONFIGS[name], 11, 5), heat))


def test_known_leading_rows_are_filled_in_as_if_drawn(name: str, sampler: Sampler) -> None:
    height, width = CONFIGS[name].shape
    _, given = reference(name).inputs(5, 6)  # two passes of the score graph
    codes = sampler.sample(5, seed=2, **given)
    for rows in range(height + 1):
        mask = np.zeros((height, width), bool)
        mask[:rows] = True
        again = sampler.sample(5, seed=2, known=np.where(mask, codes, 0), known_mask=mask, **given)
        assert np.array_equal(again, codes), f"{rows} rows known"
        logits = sampler.replay(codes, known_rows=rows, **given)
        assert np.isnan(logits[:, :rows]).all()
        difference = np.abs(logits - sampler.replay(codes, **given))[:, rows:]
        assert difference.max(initial=0) < CLOSE * reference(name).logits(codes, given).std()


def test_known_pixels_anywhere_are_kept_and_seen(name: str, sampler: Sampler) -> None:
    config, n = CONFIGS[name], 4
    known, given = reference(name).inputs(n, 7)
    mask = np.random.default_rng(0).random((n, *config.shape)) < 0.4
    codes = sampler.sample(n, seed=3, known=known, known_mask=mask, **given)
    expected = draw(reference(name).logits(codes, given), noise(config, 3, n), np.ones((n, 1, 1)))
    assert np.array_equal(codes, np.where(mask, known, expected))


def test_an_image_is_the_same_alone_and_in_any_slot_and_batch(name: str, sampler: Sampler) -> None:
    """Codes, and the logits to the last bits: products are the same bits for every batch size and slot, but the engine
    takes exp of a tensor's last few numbers in another way, and which these are depends on the batch."""
    _, given = reference(name).inputs(6, 8)
    codes = sampler.sample(6, seed=range(6), **given)
    logits = sampler.replay(codes, **given)
    order = [4, 2, 0, 5, 1, 3]
    turned = {key: value[order] for key, value in given.items()}
    assert np.array_equal(sampler.sample(6, seed=order, **turned), codes[order])
    assert np.abs(sampler.replay(codes[order], **turned) - logits[order]).max() < LAST_BITS * logits.std()
    for size in (1, 4):
        assert np.array_equal(sampler.sample(6, seed=range(6), max_batch=size, **given), codes)
        again = sampler.replay(codes, max_batch=size, **given)
        assert np.abs(again - logits).max() < LAST_BITS * logits.std(), f"batch {size}"
        if name in WHOLE_VECTORS:
            assert np.array_equal(again, logits), f"batch {size}"


@pytest.mark.parametrize("top_k, top_p", [(1, None), (3, None), (None, 0.5), (4, 0.8), (None, 0.01), (7, 0.999)])
def test_filtered_draws_are_those_of_the_slow_reference(
    name: str, sampler: Sampler, top_k: int | None, top_p: float | None
) -> None:
    config, n = CONFIGS[name], 4
    heat = np.array([1.0, 0.5, 2.0, 0.0])
    _, given = reference(name).inputs(n, 5)
    codes = sampler.sample(n, seed=4, temperature=heat, top_k=top_k, top_p=top_p, **given)
    logits = sampler.replay(codes, **given)
    expected = draw(logits, noise(config, 4, n), heat[:, None, None], top_k, top_p)
    assert np.array_equal(codes, expected)
    if top_k == 1:
        assert np.array_equal(codes, logits.argmax(-1))


def test_filters_of_each_image_are_its_own(name: str, sampler: Sampler) -> None:
    _, given = reference(name).inputs(3, 5)
    one = {key: value[1:2] for key, value in given.items()}
    codes = sampler.sample(3, seed=[1, 2, 3], top_k=[7, 2, 1], top_p=[1.0, 0.6, 0.3], **given)
    assert np.array_equal(codes[1:2], sampler.sample(1, seed=[2], top_k=2, top_p=0.6, **one))
