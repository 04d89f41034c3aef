"""A pipeline's engine gives what `generate` gives; images move on by themselves; a failure ends all of a request."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.errors import (
    DeadlineExpired,
    EngineClosed,
    EngineError,
    QueueFull,
    RequestCancelled,
    RequestError,
)
from pixelsnail_infer.runtime import Generated, Pipeline, PipelineEngine


@pytest.fixture
def engine(pipeline: Pipeline) -> Iterator[PipelineEngine]:
    with PipelineEngine(pipeline, slots=4) as made:
        yield made


def same(found: Generated, expected: Generated) -> bool:
    assert found.images is not None and expected.images is not None
    codes = all(np.array_equal(a, b) for a, b in zip(found.codes, expected.codes, strict=True))
    return codes and np.array_equal(found.images, expected.images) and found.names == expected.names


def random_arguments(rng: np.random.Generator) -> dict[str, Any]:
    n = int(rng.integers(1, 6))
    some: dict[str, Any] = {"n": n, "seed": int(rng.integers(1 << 40)), "label": rng.integers(0, 2, n)}
    if rng.random() < 0.4:
        some["temperature"] = [0.5, 1.3]
    if rng.random() < 0.4:
        some["top_p"] = [0.7, None]
    if rng.random() < 0.4:
        some["image"] = rng.uniform(-1, 1, (8, 12, 3)).astype(np.float32)
        some["keep"] = (0, 0, 12, int(rng.integers(4, 9)))
    return some


def test_random_requests(pipeline: Pipeline, engine: PipelineEngine) -> None:
    rng = np.random.default_rng(4)
    asked = [(some := random_arguments(rng), engine.submit(**some)) for _ in range(60)]
    for k, (_, ticket) in enumerate(asked):
        if k % 5 == 0:
            ticket.cancel()
    for k, (some, ticket) in enumerate(asked):
        if k % 5 or ticket._delivery.error is None:
            assert same(ticket.result(30), pipeline.generate(**some))
    first, last = engine.stats()
    assert first.done + first.cancelled == last.done + last.cancelled == 60
    assert first.held_bytes == last.held_bytes == first.waiting == last.waiting == 0


def test_rows_say_which_prior_drew_them(pipeline: Pipeline, engine: PipelineEngine) -> None:
    ticket = engine.submit(3, seed=2, label=1)
    rows = list(ticket.rows())
    expected = pipeline.generate(3, seed=2, label=1)
    for stage, codes in enumerate(expected.codes):
        drawn = np.full(codes.shape, -1)
        for row in rows:
            if row.stage == stage:
                drawn[row.image, row.row] = row.pixels
        assert np.array_equal(drawn, codes)
    assert len(rows) == sum(codes.shape[0] * codes.shape[1] for codes in expected.codes)


def test_an_image_moves_on_before_the_others_of_its_request(pipeline: Pipeline) -> None:
    """The second prior draws while the first one has images of the same request left."""
    with PipelineEngine(pipeline, slots=1) as engine, engine.submit(3000, seed=1, label=0) as ticket:
        next(row for row in ticket.rows() if row.stage == 1)
        assert engine.stats()[0].waiting_images > 0


def test_a_full_pipeline_counts_what_is_not_at_the_last_prior(pipeline: Pipeline) -> None:
    with PipelineEngine(pipeline, slots=1, queue=3) as engine:
        accepted = []
        with pytest.raises(QueueFull) as full:
            for k in range(10_000):
                accepted.append(engine.submit(4, seed=k, label=0))
        assert full.value.limit == "queue" and len(accepted) >= 3
        first, last = engine.stats()
        assert first.waiting <= 4 and last.waiting <= 4
        for ticket in accepted:
            ticket.result(30)


def test_memory_counts_until_the_last_image_is_decoded(pipeline: Pipeline) -> None:
    one = pipeline.image_bytes * 2
    with PipelineEngine(pipeline, slots=2, memory=2 * one) as engine:
        assert engine.submit(label=0).result(30).images is not None
        with pytest.raises(RequestError, match="would hold"):
            engine.submit(100, label=0)
        with pytest.raises(QueueFull) as full:
            for k in range(1000):
                engine.submit(seed=k, label=0)
        assert full.value.limit == "memory"
        assert all(stats.held_bytes <= 2 * one for stats in engine.stats())


def test_a_decoder_that_fails_for_one_image_fails_its_request_alone(
    pipeline: Pipeline, engine: PipelineEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = pipeline.generate(1, seed=7, label=0).codes[1]
    decoder, decode = pipeline.decoder, type(pipeline.decoder).decode

    def fails(self: Any, *codes: Any, **more: Any) -> Any:
        if any(np.array_equal(one, bad[0]) for one in codes[1]):
            raise EngineError("cannot decode this")
        return decode(self, *codes, **more)

    assert decoder is not None
    expected = [pipeline.generate(2, seed=k, label=0) for k in range(20)]
    monkeypatch.setattr(type(decoder), "decode", fails)
    asked = [engine.submit(2, seed=k, label=0) for k in range(20)]
    for k, ticket in enumerate(asked):
        if k == 7:
            with pytest.raises(EngineError, match="cannot decode this"):
                ticket.result(30)
        else:
            assert same(ticket.result(30), expected[k])
    assert [stats.failed for stats in engine.stats()][-1] == 1


def test_an_expired_request_leaves_all_levels(pipeline: Pipeline) -> None:
    with PipelineEngine(pipeline, slots=1) as engine:
        ticket = engine.submit(2000, label=0, deadline=0.05)
        with pytest.raises(DeadlineExpired):
            ticket.result(30)
        assert engine.submit(label=0).result(30).codes[0].shape[0] == 1
        assert all(stats.held_bytes == 0 for stats in engine.stats())


@pytest.mark.parametrize("drain", [True, False])
def test_close(pipeline: Pipeline, drain: bool) -> None:
    before = threading.active_count()
    engine = PipelineEngine(pipeline, slots=2)
    tickets = [engine.submit(3, seed=k, label=1) for k in range(30)]
    assert threading.active_count() == before + 3
    assert engine.close(drain=drain)
    assert threading.active_count() == before
    with pytest.raises(EngineClosed):
        engine.submit(label=0)
    ended = 0
    for k, ticket in enumerate(tickets):
        if drain:
            assert same(ticket.result(0), pipeline.generate(3, seed=k, label=1))
        else:
            try:
                ticket.result(0)
            except EngineClosed:
                ended += 1
    assert drain or ended


def test_a_cancelled_request_ends_at_once(engine: PipelineEngine) -> None:
    ticket = engine.submit(2000, label=0)
    next(ticket.rows())
    assert ticket.cancel() and not ticket.cancel()
    with pytest.raises(RequestCancelled):
        ticket.result(0)
    assert engine.submit(label=0).result(30)
