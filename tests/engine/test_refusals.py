"""What is refused because there is no room costs nothing: nothing of its size is made, and nothing is computed."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.errors import EngineClosed, PixelsnailError, QueueFull, RequestError
from pixelsnail_infer.runtime import Engine, Pipeline, PipelineEngine
from pixelsnail_infer.runtime.engine import engine as engine_module

from ..runtime.synthetic import H, W
from .faulty import Orders, faulty_sampler

MANY = 20_000
BYTES = MANY * H * W * 8


@pytest.fixture
def held(toy: Path) -> Iterator[tuple[Engine, Orders]]:
    """An engine of one slot and one place, which stands still at its first row."""
    opened, orders = faulty_sampler(toy)
    orders.gate.clear()
    with Engine(opened, slots=1, queue=1, memory=BYTES * 3 // 2) as engine:
        try:
            engine.submit(label=0)
            assert orders.entered.acquire(timeout=30)
            yield engine, orders
        finally:
            engine.close(drain=False, timeout=0)
            orders.gate.set()


def refused(engine: Engine, error: type[PixelsnailError]) -> int:
    """The most memory that a refused request of `MANY` images held at once."""
    labels = np.zeros(MANY, np.int64)
    tracemalloc.start()
    try:
        with pytest.raises(error):
            engine.submit(MANY, label=labels)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("why", ["queue", "memory", "closed"])
def test_a_refusal_allocates_nothing_of_the_requests_size(held: tuple[Engine, Orders], why: str) -> None:
    engine, _ = held
    if why == "queue":
        engine.submit(label=0)
    elif why == "memory":
        engine._level.loop._line._bytes += BYTES
    else:
        assert not engine.close(timeout=0)
    before = engine.stats()
    assert refused(engine, EngineClosed if why == "closed" else QueueFull) < BYTES // 50
    after = engine.stats()
    assert after.refused == before.refused + 1
    assert (after.waiting, after.held_bytes) == (before.waiting, before.held_bytes)
    if why == "memory":
        engine._level.loop._line._bytes -= BYTES


def test_a_request_that_is_being_checked_holds_its_place(
    held: tuple[Engine, Orders], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many at once no more are made than fit; and what one that is wrong held is free again."""
    engine, _ = held
    inside, go, made = threading.Event(), threading.Event(), engine_module.make_request

    def slow(*arguments: Any, **settings: Any) -> Any:
        inside.set()
        assert go.wait(30)
        return made(*arguments, **settings)

    monkeypatch.setattr(engine_module, "make_request", slow)
    errors: list[BaseException] = []

    def wrong() -> None:
        try:
            engine.submit(MANY, label=9)
        except RequestError as error:
            errors.append(error)

    thread = threading.Thread(target=wrong)
    thread.start()
    assert inside.wait(30)
    with pytest.raises(QueueFull) as full:
        engine.submit(label=0)
    assert full.value.limit == "queue"
    go.set()
    thread.join(30)
    assert len(errors) == 1 and engine.stats().held_bytes < BYTES // 50
    assert not engine.submit(MANY, label=0).done


@pytest.mark.parametrize("why", ["queue", "memory", "closed"])
def test_a_pipelines_refusal_computes_nothing(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """With `image=` the encoder would run."""
    with PipelineEngine(pipeline, slots=1, queue=1) as engine:
        calls: list[int] = []
        requests: Callable[..., Any] = pipeline.requests
        monkeypatch.setattr(pipeline, "requests", lambda *a, **k: (calls.append(1), requests(*a, **k))[1])
        if why == "queue":
            monkeypatch.setattr(engine._loops[-1]._line, "_waiting", 10)
        elif why == "memory":
            monkeypatch.setattr(engine._loops[-1]._line, "_bytes", 256 << 20)
        else:
            engine.close()
        with pytest.raises(EngineClosed if why == "closed" else QueueFull):
            engine.submit(label=0, image=np.zeros((8, 12, 3), np.float32), keep=(0, 0, 12, 4))
        monkeypatch.undo()
    assert calls == []
