"""Exported networks over images, through the runtime, against PyTorch: parameters, likelihoods, draws, everywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pixelsnail_infer.distributions import distribution_of, from_uint8, to_uint8
from pixelsnail_infer.models import mixture as in_torch
from pixelsnail_infer.runtime import Sampler

from .networks import CASES, reference

CLOSE, GREY = 1e-4, 1e-3 / 127.5  # of the parameters' standard deviation; a thousandth of a grey level


def confirm(name: str, images: np.ndarray, expected: np.ndarray) -> None:
    """Drawn images are those expected, to a thousandth of a grey level; rounded ones to the bit."""
    assert np.abs(images - expected).max() < GREY
    if CASES[name].law.round:
        assert np.array_equal(images, from_uint8(to_uint8(images)))


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_replay_and_score(name: str, sampler: Sampler, batch: int) -> None:
    law = CASES[name].law
    images, given = reference(name).inputs(batch, batch)
    parameters = reference(name).logits(images, given)
    found = sampler.replay(images, **given)
    assert found.dtype == np.float32 and found.shape == (batch, *CASES[name].shape, law.parameters)
    assert np.abs(found - parameters).max() < CLOSE * parameters.std()
    assert sampler.score(images, **given).shape == (batch, *CASES[name].shape)
    double = reference(name).logits(images, given, torch.float64)
    expected = law.bits_per_dim(law.log_probability(double, images))
    assert np.abs(sampler.bits_per_dim(images, **given) - expected).max() < 1e-5
    tensors = [torch.from_numpy(np.float64(value)).movedim(-1, 1) for value in (double, images)]
    assert expected.mean() == pytest.approx(float(in_torch.bits_per_dimension(*tensors)), abs=1e-9)


def test_a_step_run_twice_changes_nothing(name: str, sampler: Sampler) -> None:
    images, given = reference(name).inputs(2, 9)
    assert np.array_equal(sampler.replay(images, twice=True, **given), sampler.replay(images, **given))


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0, [0.0, 1.0, 2.5, 0.3, 1.0]])
def test_every_draw_is_that_of_pytorch(name: str, sampler: Sampler, temperature: float | list[float]) -> None:
    _, given = reference(name).inputs(5, 4)
    images = sampler.sample(5, seed=11, temperature=temperature, **given)
    assert images.dtype == np.float32 and images.shape == (5, *CASES[name].shape, CASES[name].law.channels)
    assert np.abs(images).max() <= 1 and len(np.unique(images)) > 10
    heat = np.broadcast_to(np.float32(temperature), 5)[:, None, None]
    expected = CASES[name].law.draw(reference(name).logits(images, given), reference(name).noise(5, 11), heat)
    confirm(name, images, expected)


def test_known_leading_rows_are_filled_in_as_if_drawn(name: str, sampler: Sampler) -> None:
    height, width = CASES[name].shape
    _, given = reference(name).inputs(5, 6)  # two passes of the score graph
    images = sampler.sample(5, seed=2, **given)
    for rows in range(height + 1):
        mask = np.zeros((height, width), bool)
        mask[:rows] = True
        again = sampler.sample(5, seed=2, known=np.where(mask[..., None], images, np.nan), known_mask=mask, **given)
        assert np.array_equal(again[:, :rows], images[:, :rows])
        assert np.abs(again - images).max() < GREY, f"{rows} rows known"
        found, whole = sampler.replay(images, known_rows=rows, **given), sampler.replay(images, **given)
        assert np.isnan(found[:, :rows]).all()
        assert np.abs(found - whole)[:, rows:].max(initial=0) < CLOSE * whole.std()


def test_known_pixels_anywhere_are_kept_and_seen(name: str, sampler: Sampler) -> None:
    n = 4
    known, given = reference(name).inputs(n, 7)
    mask = np.random.default_rng(0).random((n, *CASES[name].shape)) < 0.4
    images = sampler.sample(n, seed=3, known=known.astype(np.float64), known_mask=mask, **given)
    assert np.array_equal(images[mask], known[mask])
    parameters = reference(name).logits(images, given)
    drawn = CASES[name].law.draw(parameters, reference(name).noise(n, 3), np.ones((n, 1, 1)))
    confirm(name, images[~mask], drawn[~mask])


def test_an_image_is_the_same_alone_and_in_any_slot_and_batch(name: str, sampler: Sampler) -> None:
    _, given = reference(name).inputs(6, 8)
    images, order = sampler.sample(6, seed=range(6), **given), [4, 2, 0, 5, 1, 3]
    turned = {key: value[order] for key, value in given.items()}
    assert np.abs(sampler.sample(6, seed=order, **turned) - images[order]).max() < GREY
    for size in (1, 4):
        assert np.abs(sampler.sample(6, seed=range(6), max_batch=size, **given) - images).max() < GREY


def test_a_stopped_call_is_resumed(name: str, sampler: Sampler) -> None:
    _, given = reference(name).inputs(2, 5)
    whole, rows = sampler.sample(2, seed=1, **given), []

    def on_row(row: int, pixels: np.ndarray, first: int) -> bool:
        rows.append(pixels)
        return row == 1

    images = sampler.sample(2, seed=1, on_row=on_row, **given)
    assert np.isnan(images[:, 2:]).all() and np.array_equal(images[:, :2], whole[:, :2])
    assert np.array_equal(np.stack(rows, 1), images[:, :2])
    known = ~np.isnan(images).any(-1)
    again = sampler.sample(2, seed=1, known=images, known_mask=known, **given)
    assert np.abs(again - whole).max() < GREY


def test_progress_counts_pixels_and_memory_is_exact(name: str, sampler: Sampler) -> None:
    _, given = reference(name).inputs(2, 5)
    seen: list[tuple[int, int]] = []
    sampler.sample(2, progress=lambda *counts: seen.append(counts), **given)
    height, width = CASES[name].shape
    assert seen == [(2 * width * (i + 1), 2 * height * width) for i in range(height)]
    assert sampler.buffer_bytes(2) > sampler.buffer_bytes(1) > 0
    assert sampler._work.batch is not None
    held = sampler._work.batch.buffers.values()
    prologue = sum(spec.array.nbytes for spec in sampler._work.batch.prologue.tensors.values())
    conditions = sum(value.nbytes for value in given.values())
    assert sampler.buffer_bytes(2) == sum(buffer.array.nbytes for buffer in held) + prologue + conditions
    sampler.warm_up(2, filtered=True, score=True)


def test_the_manifest_says_what_the_pixels_are(name: str, sampler: Sampler) -> None:
    law, manifest = CASES[name].law, sampler.manifest
    assert distribution_of(manifest) == law
    assert manifest.pixel.channels == law.channels and "filtered" not in manifest.files
    assert manifest.noise.width == law.n_mix + law.channels
