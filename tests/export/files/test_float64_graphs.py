"""The graphs written in float64 and driven by the contract's rules alone equal the module's float64 forward."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from pixelsnail_infer.distributions import log_probability
from pixelsnail_infer.export.compile import compile_model
from pixelsnail_infer.export.tracing.trace import InputSpec

from . import models
from . import mutants as m
from .drive import Driver

EXACT = 1e-8  # the engine's exp of doubles is good to about 1e-10, and layers add up
NAMES = ("wide_kernel", "tall", "no_attention", "label", "codes_attention")
compiled = functools.cache(models.compiled)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_every_graph_in_float64(name: str, batch: int) -> None:
    codes, given = models.reference(name).inputs(batch, batch)
    expected = models.reference(name).logits(codes, given, torch.float64)
    driver = Driver(compiled(name), "float64")
    for part in ("step", "filtered"):
        driver.begin(batch, given)
        assert np.abs(driver.replay(codes, part) - expected).max() < EXACT
    score = driver.run("score", pixels=codes, rows=np.zeros(batch, np.int64))
    assert np.abs(score["logits"] - expected).max() < EXACT
    assert np.abs(score["logprob"] - log_probability(expected, codes)).max() < EXACT


@pytest.mark.parametrize("name", NAMES)
def test_score_leaves_the_states_that_the_steps_leave(name: str) -> None:
    """After any number of rows, other for every slot; caches hold what was computed and nothing is said of the rest."""
    height, width = models.CONFIGS[name].shape
    codes, given = models.reference(name).inputs(3, 5)
    driver = Driver(compiled(name), "float64")
    rows = np.array([0, 1, height])
    driver.begin(3, given)
    score = driver.run("score", pixels=codes, rows=rows)
    for slot, count in enumerate(rows):
        driver.begin(3, given)
        driver.replay(codes, rows=count)
        for state, held in driver.held.items():
            if state.startswith("state."):
                end = count * width if state.startswith(("state.keys", "state.values")) else None
                found = score[f"{state}.out"][slot, :, :end]
                assert np.abs(found - held[slot, :, :end]).max(initial=0) < EXACT, (state, count)


def test_attention_that_sees_its_own_position_reads_what_the_step_wrote() -> None:
    """In place, an engine may happen to write before it reads; with memory of its own for the result it shows."""
    net = m.Inclusive()
    codes = np.random.default_rng(0).integers(0, net.levels, (2, *net.shape))
    with torch.no_grad():
        expected = net.double()(torch.from_numpy(codes)).permute(0, 2, 3, 1).numpy()
    program = compile_model(net, lambda module, pixels: module(pixels),
                            (InputSpec("pixels", net.shape, torch.int64, net.levels),), net.shape)
    errors = []
    for change in (lambda compiled: None, m.read_before_write):
        change(program)
        driver = Driver(program, "float64")
        driver.begin(2, {})
        errors.append(np.abs(driver.replay(codes) - expected).max())
    assert errors[0] < EXACT < 1e-3 < errors[1]
