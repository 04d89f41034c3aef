"""When the backend fails: who is drawn again, beside others or alone, and who fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.errors import EngineClosed, EngineError
from pixelsnail_infer.runtime import Engine, Pipeline, PipelineEngine, Sampler

from ..runtime.synthetic import H, L
from .faulty import faulty_sampler
from .workload import check, random_request


def known(engine: Engine, pixel: int, seed: int) -> Any:
    """A request whose pixel (2, 1) is known; rows above are drawn."""
    mask = np.zeros(engine.manifest.shape, bool)
    mask[2, 1] = True
    return engine.submit(seed=seed, label=0, known=np.full(engine.manifest.shape, pixel), known_mask=mask)


@pytest.mark.parametrize("part, runs", [
    ("row", [0]), ("row", [3]), ("row", [1, 2]), ("step", [0]), ("step", [7]), ("step", [3, 11]), ("prologue", [0]),
    ("prologue", [1, 2]), ("score", [0]), ("score", [0, 1]), ("filtered", [2]),
])  # fmt: skip
def test_passing_failures_change_nothing(sampler: Sampler, toy: Path, part: str, runs: list[int]) -> None:
    broken, orders = faulty_sampler(toy)
    orders.fail(part, *runs)
    rng = np.random.default_rng(1)
    requests = [random_request(sampler.manifest, rng) for _ in range(30)]
    with Engine(broken, slots=4) as engine:
        assert check(sampler, engine, requests, cancelled=0) == 30
        assert engine.stats().failures == len(runs) and engine.stats().failed == 0


@pytest.mark.parametrize("error", [EngineError, MemoryError, ValueError])
def test_one_that_always_fails_fails_alone(sampler: Sampler, toy: Path, error: type[Exception]) -> None:
    """The step fails whenever the pixel L - 1 is given in row 2 of any slot."""
    broken, orders = faulty_sampler(toy)

    def before(part: str, inputs: dict[str, np.ndarray]) -> None:
        if part == "step" and ((inputs["given"][:, 1] == L - 1) & inputs["use_given"][:, 1]).any():
            raise error("the poison")

    orders.before = before
    with Engine(broken, slots=4) as engine:
        orders.gate.clear()
        tickets = [engine.submit(2, seed=k, label=0) for k in range(5)]
        poisoned = known(engine, L - 1, 3)
        tickets += [engine.submit(2, seed=k, label=0) for k in range(5, 40)]
        healthy = known(engine, 0, 4)
        orders.gate.set()
        for k, ticket in enumerate(tickets):
            assert np.array_equal(ticket.result(30), sampler.sample(2, seed=k, label=0))
        with pytest.raises(EngineError, match="the poison"):
            poisoned.result(30)
        assert healthy.result(30)[0, 2, 1] == 0
        stats = engine.stats()
        assert stats.failed == 1 and stats.failures == 3 and stats.held_bytes == stats.live == stats.waiting == 0
        assert [row.row for row in _rows_of(poisoned)] == [0, 1]  # those above were drawn, and delivered once


def _rows_of(ticket: Any) -> list[Any]:
    rows = []
    with pytest.raises(EngineError):
        for row in ticket.rows():
            rows.append(row)
    return rows


def test_the_third_try_is_alone(toy: Path) -> None:
    broken, orders = faulty_sampler(toy)
    orders.fail("step", *range(10_000))
    with Engine(broken, slots=4) as engine:
        orders.gate.clear()
        tickets = [engine.submit(seed=k, label=0) for k in range(4)]
        assert orders.entered.acquire(timeout=30)
        orders.gate.set()
        for ticket in tickets:
            with pytest.raises(EngineError, match="run of step failed"):
                ticket.result(30)
    last = [size for part, size in orders.runs if part == "step"][-4:]
    assert last == [1, 1, 1, 1]


def test_alone_is_alone(sampler: Sampler, toy: Path) -> None:
    """This backend draws row 2 for one slot at a time only, so every image is finished at its third try; and nobody
    joins it then, though others wait."""
    broken, orders = faulty_sampler(toy)

    def before(part: str, inputs: dict[str, np.ndarray]) -> None:
        if part == "step" and len(inputs["row"]) > 1 and (inputs["row"] == 2).any():
            raise EngineError("too many")

    orders.before = before
    with Engine(broken, slots=4) as engine:
        tickets = [engine.submit(2, seed=k, label=0) for k in range(6)]
        for k, ticket in enumerate(tickets):
            assert np.array_equal(ticket.result(30), sampler.sample(2, seed=k, label=0))
        assert engine.stats().failures > 1


def test_rows_that_are_drawn_again_are_delivered_once(sampler: Sampler, toy: Path) -> None:
    broken, orders = faulty_sampler(toy)
    orders.fail("row", 2)
    with Engine(broken, slots=2) as engine:
        ticket = engine.submit(2, seed=9, label=1)
        rows = list(ticket.rows())
        assert sorted((row.image, row.row) for row in rows) == [(k, i) for k in range(2) for i in range(H)]
        assert np.array_equal(ticket.result(), sampler.sample(2, seed=9, label=1))


def test_an_error_of_the_loop_itself_answers_everybody(
    toy: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken, orders = faulty_sampler(toy)
    engine = Engine(broken, slots=2)
    orders.gate.clear()
    tickets = [engine.submit(3, seed=k, label=0) for k in range(4)]
    monkeypatch.setattr("pixelsnail_infer.runtime.engine.loop.Loop._finish", lambda *_: 1 / 0)
    with caplog.at_level(logging.ERROR, "pixelsnail_infer.engine"):
        orders.gate.set()
        for ticket in tickets:
            with pytest.raises(EngineError, match="ZeroDivisionError"):
                ticket.result(30)
        assert engine.close()
    assert "ended by an error" in caplog.text
    with pytest.raises(EngineClosed, match="ended by an error .ZeroDivisionError"):  # not only that it is closed
        engine.submit(label=0)
    assert not [t for t in threading.enumerate() if t.name == "pixelsnail-engine"]


class Raising(logging.Filter):
    """A filter of the embedding program that fails."""

    def filter(self, record: logging.LogRecord) -> bool:
        raise KeyError("request_id")


@pytest.fixture
def raising() -> Iterator[None]:
    """While it is there, every log call of engines would raise."""
    log, broken = logging.getLogger("pixelsnail_infer.engine"), Raising()
    log.addFilter(broken)
    yield
    log.removeFilter(broken)


def test_a_log_that_raises_leaves_no_request_without_an_answer(
    sampler: Sampler, toy: Path, pipeline: Pipeline, raising: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, orders = faulty_sampler(toy)
    orders.fail("row", 0)
    with Engine(broken, slots=2) as engine:
        for k, ticket in enumerate([engine.submit(seed=k, label=0) for k in range(3)]):
            assert np.array_equal(ticket.result(30), sampler.sample(1, seed=k, label=0))
        monkeypatch.setattr(engine._level.loop, "_finish", lambda *_: 1 / 0)
        with pytest.raises(EngineError, match="ZeroDivisionError"):
            engine.submit(label=0).result(30)
    with PipelineEngine(pipeline, slots=2) as both:
        with monkeypatch.context() as patch:
            patch.setattr(type(pipeline.decoder), "decode", lambda *_: 1 / 0)
            with pytest.raises(EngineError, match="division"):
                both.submit(label=0).result(30)
        assert both.submit(label=0).result(30).images is not None


def test_failures_are_logged_and_nothing_is_printed(
    toy: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    broken, orders = faulty_sampler(toy)
    orders.fail("row", 1)
    with caplog.at_level(logging.WARNING, "pixelsnail_infer.engine"), Engine(broken) as engine:
        engine.submit(label=0).result(30)
    assert "run of row failed" in caplog.text and capfd.readouterr() == ("", "")
    handlers = logging.getLogger("pixelsnail_infer.engine").handlers
    assert any(isinstance(handler, logging.NullHandler) for handler in handlers)  # or Python prints warnings by itself
