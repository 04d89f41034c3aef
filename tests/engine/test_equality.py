"""Whatever else runs, a request's images are those of `sample`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.runtime import Engine, Sampler, load

from ..runtime.synthetic import H, K, L, W, sample_slowly
from .faulty import far_sampler
from .workload import check, random_request

EXAMPLES = Path(__file__).parents[2] / "examples"


def requests(sampler: Sampler, count: int, seed: int = 0, most: int = 6) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [random_request(sampler.manifest, rng, most) for _ in range(count)]


@pytest.mark.parametrize("slots, ladder", [(16, None), (5, None), (7, [1, 2, 3, 4, 5, 6]), (1, None), (4, [4])])
def test_random_requests_of_the_toy_model(sampler: Sampler, slots: int, ladder: list[int] | None) -> None:
    with Engine(sampler, slots=slots, ladder=ladder) as engine:
        assert engine.ladder[-1] == slots and (ladder is None or set(ladder) <= set(engine.ladder))
        assert check(sampler, engine, requests(sampler, 120, slots)) > 60
        assert engine.stats().failures == 0


def test_the_closed_form(sampler: Sampler) -> None:
    """As `sample` is compared with it, too, but here beside others that come and go."""
    rng = np.random.default_rng(3)
    with Engine(sampler, slots=4) as engine:
        asked = []
        for k in range(40):
            n, mask = int(rng.integers(1, 4)), rng.random((H, W)) < 0.3
            label, known = rng.integers(0, K, n), rng.integers(0, L, (n, H, W))
            ticket = engine.submit(n, seed=k, label=label, known=known, known_mask=mask, top_p=0.7)
            expected = sample_slowly(n, label, k, top_p=0.7, known=known, mask=np.broadcast_to(mask, (n, H, W)))
            asked.append((ticket, expected))
        for ticket, expected in asked:
            assert np.array_equal(ticket.result(30), expected)


def test_buffers_that_are_far_from_the_host(toy: Path) -> None:
    """As on a GPU: only what is pushed and pulled arrives, and there is one batch size."""
    with far_sampler(toy) as sampler, Engine(sampler, slots=5) as engine:
        assert engine.ladder == (5,)
        assert check(sampler, engine, requests(sampler, 60, 1)) > 30


@pytest.fixture(scope="module")
def digits(digits_graphs: dict[str, Path]) -> Iterator[Sampler]:
    with load(digits_graphs["step"], threads=1) as opened:
        yield opened


def test_digits(digits: Sampler) -> None:
    with Engine(digits, slots=8) as engine:
        assert check(digits, engine, requests(digits, 60)) > 30
        stats = engine.stats()
        assert stats.done + stats.cancelled == 60 and stats.failed == 0 and stats.rows <= stats.slot_rows


def test_digits_in_an_archive(digits_archive: Path) -> None:
    with load(digits_archive, threads=1) as sampler, Engine(sampler, slots=8) as engine:
        assert engine.ladder == (1, 2, 3, 4, 6, 8)
        assert check(sampler, engine, requests(sampler, 24, 5, most=4)) > 12


SLOW = [pytest.param(name, marks=pytest.mark.full) for name in ("vqvae_top", "patches")]


@pytest.fixture(scope="module", params=["pixelcnn_digits", "vqvae_bottom", *SLOW])
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sampler]:
    from pixelsnail_infer.export.cli import main

    path = tmp_path_factory.mktemp("example") / "model.onnx"
    assert main([str(EXAMPLES / f"{request.param}.pt"), str(path)]) == 0
    with load(path, threads=1) as opened:
        yield opened


def test_examples(example: Sampler) -> None:
    """Codes, with conditions of all kinds, to the bit. Floating-point pixels to what the engine's arithmetic differs by
    between batch sizes, in `sample` as well."""
    codes = example.manifest.pixel.kind == "codes"

    def close(found: np.ndarray, expected: np.ndarray) -> bool:
        return np.array_equal(found, expected) if codes else bool(np.abs(found - expected).max() < 1e-4)

    with Engine(example, slots=6) as engine:
        assert check(example, engine, requests(example, 16, 2, most=4), equal=close) > 8


def test_a_slot_without_filters_is_the_same_beside_one_with(digits: Sampler) -> None:
    """The filtered step runs for all slots in rows where one needs it."""
    alone = digits.sample(12, seed=5, label=3)
    with Engine(digits, slots=16) as engine:
        for k in range(6):
            others = engine.submit(4, seed=k, label=1, top_p=0.5)
            assert np.array_equal(engine.submit(12, seed=5, label=3).result(30), alone)
            others.cancel()
