"""Spacings, and the tables of every step against the formulas as the papers write them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pixelsnail_infer.denoiser import DiffusionSpec
from pixelsnail_infer.errors import ManifestError, RequestError
from pixelsnail_infer.export.denoisers.formulas import FormulaStep, cumulative
from pixelsnail_infer.runtime.denoising.schedule import Schedule
from pixelsnail_infer.runtime.denoising.spacing import spaced

SPEC = DiffusionSpec(300, "linear", "eps", "fixed-large", True)


@pytest.mark.parametrize("steps, expected", [
    (None, tuple(range(12))), ("", tuple(range(12))), ("3", (0, 6, 11)), (1, (0,)), ("ddim4", (0, 3, 6, 9)),
    ("ddim12", tuple(range(12))), ("2,1,2", (0, 3, 4, 8, 11)), ([1, 3], (0, 6, 8, 11)),
])
def test_spacing(steps: object, expected: tuple[int, ...]) -> None:
    assert spaced(steps, 12) == expected  # type: ignore[arg-type]


def test_sections_of_unequal_size() -> None:
    assert spaced("4,4,4", 14) == (0, 1, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13)  # sections of 5, 5 and 4 steps


@pytest.mark.parametrize("steps", ["0", "13", "ddim5", "ddim", "a", "-3", "1,,2", 0, True, 2.5, [], "7,7", [3, 0]])
def test_wrong_spacings_are_refused(steps: object) -> None:
    with pytest.raises(RequestError, match="steps"):
        spaced(steps, 12)  # type: ignore[arg-type]


def test_a_diffusion_that_adds_more_noise_than_there_is_is_refused() -> None:
    with pytest.raises(ManifestError, match="more noise than there is"):
        DiffusionSpec(20, "linear", "eps", "fixed-large", True)


@pytest.mark.parametrize("predict", ["eps", "x0", "x_prev"])
@pytest.mark.parametrize("variance", ["fixed-large", "fixed-small", "learned-range"])
@pytest.mark.parametrize("noise_schedule", ["linear", "cosine"])
@pytest.mark.parametrize("eta", [None, 0.0, 0.7])
def test_tables_are_the_formulas(predict: str, variance: str, noise_schedule: str, eta: float | None) -> None:
    spec = DiffusionSpec(300, noise_schedule, predict, variance, False)
    bars, schedule = cumulative(spec), Schedule.of(spec, "7")
    table = schedule.ddpm() if eta is None else schedule.ddim(eta)
    random, taken = np.random.default_rng(0), schedule.taken
    for place, step in enumerate(taken):
        a, b, limit, m_x0, m_x, m_o, n, n_v, s = table[place]
        x, output, spread, noise = random.standard_normal((4, 50))
        formula = FormulaStep(spec, bars[step], bars[taken[place - 1]] if place else 1.0, (bars[0], bars[taken[1]]))
        x0 = np.clip(a * x + b * output, -limit, limit)
        found = m_x0 * x0 + m_x * x + m_o * output + s * np.exp((n + n_v * spread) / 2) * noise
        expected = formula.ddpm(x, output, spread, noise, True) if eta is None else \
            formula.ddim(x, output, noise, eta, True)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(x0, formula.clean(x, output, True), rtol=1e-9, atol=1e-10)


def test_times_are_rescaled_to_a_thousand() -> None:
    np.testing.assert_allclose(Schedule.of(SPEC, "3").times, [0, 500.0, 299 / 0.3], rtol=1e-6)
    assert list(Schedule.of(replace(SPEC, rescale_timesteps=False), "3").times) == [0, 150, 299]


@pytest.mark.parametrize("eta", [-0.1, 1.5, float("nan"), "1", True])
def test_a_wrong_eta_is_refused(eta: object) -> None:
    with pytest.raises(RequestError, match="eta"):
        Schedule.of(SPEC, 5).ddim(eta)  # type: ignore[arg-type]
