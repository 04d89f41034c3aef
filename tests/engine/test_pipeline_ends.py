"""How a pipeline's engine ends, all of it or a part; and what becomes of requests that come meanwhile."""

from __future__ import annotations

import gc
import threading
import time
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.errors import EngineClosed, EngineError
from pixelsnail_infer.runtime import Pipeline, PipelineEngine
from pixelsnail_infer.runtime.engine.course import Course

from .test_interrupted import Interrupted


def engine_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("pixelsnail-")]


def ended() -> bool:
    """Whether all threads of engines end within half a minute."""
    until = time.monotonic() + 30
    while engine_threads() and time.monotonic() < until:
        time.sleep(0.01)
    return not engine_threads()


def test_a_drain_that_runs_out_of_time_goes_on(pipeline: Pipeline) -> None:
    expected = pipeline.generate(20, seed=3, label=1)
    engine = PipelineEngine(pipeline, slots=2)
    ticket = engine.submit(20, seed=3, label=1)
    assert not engine.close(timeout=0)
    with pytest.raises(EngineClosed):
        engine.submit(label=0)
    found = ticket.result(60)
    assert found.images is not None and np.array_equal(found.images, expected.images)
    assert engine.close(timeout=float("inf")) and not engine_threads()
    assert [(stats.done, stats.cancelled, stats.failed) for stats in engine.stats()] == [(1, 0, 0)] * 2
    assert sum(stats.refused for stats in engine.stats()) == 1


def test_giving_up_after_a_drain_that_ran_out_of_time(pipeline: Pipeline) -> None:
    engine = PipelineEngine(pipeline, slots=1)
    ticket = engine.submit(3000, label=1)
    assert not engine.close(timeout=0)
    assert engine.close(drain=False) and not engine_threads()
    with pytest.raises(EngineClosed):
        ticket.result(0)


def test_a_request_that_a_later_level_refuses_counts_as_refused_alone(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last level is entered first."""
    with PipelineEngine(pipeline, slots=1) as engine:
        with monkeypatch.context() as patch:
            patch.setattr(engine._loops[0], "enter", lambda *_: engine._loops[0]._undefined)
            with pytest.raises(AttributeError):
                engine.submit(label=0)
        assert [(stats.done, stats.held_bytes, stats.waiting) for stats in engine.stats()] == [(0, 0, 0)] * 2
        assert engine.submit(label=0).result(30).images is not None
        assert [stats.done for stats in engine.stats()] == [1, 1]


def test_a_level_that_ends_while_a_request_enters(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last level gives the request up before it has entered the first one."""
    engine = PipelineEngine(pipeline, slots=1)
    first, last = engine._loops
    enter = first.enter

    def late(*arguments: Any) -> None:
        last._give_up(list(last._line.jobs), EngineClosed("given up"))
        enter(*arguments)

    monkeypatch.setattr(first, "enter", late)
    with pytest.raises(EngineClosed, match="given up"):
        engine.submit(5, label=0).result(30)
    assert not first._line.jobs and not last._line.jobs
    assert engine.close(timeout=30)


def test_a_decoder_that_cannot_start_leaves_no_thread(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("pixelsnail_infer.runtime.engine.pipeline_engine.Decoding", fails)
    with pytest.raises(RuntimeError, match="new thread"):
        PipelineEngine(pipeline, slots=1)
    assert not engine_threads()


def test_an_error_of_the_decoders_thread_answers_everybody(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = PipelineEngine(pipeline, slots=2)
    monkeypatch.setattr(Course, "_decoded", lambda *_: 1 / 0)
    tickets = [engine.submit(3, seed=k, label=0) for k in range(5)]
    for ticket in tickets:
        with pytest.raises(EngineError, match="ZeroDivisionError"):
            ticket.result(30)
    with pytest.raises(EngineClosed, match="ZeroDivisionError"):
        engine.submit(label=0)
    assert engine.close(timeout=30) and all(stats.held_bytes == 0 for stats in engine.stats())


class Service:
    """Holds itself, as services do: only the garbage collector finds it."""

    def __init__(self, engine: PipelineEngine) -> None:
        self.engine, self.me = engine, self


class ClosingService(Service):
    """Closes its engine when it is collected."""

    closed: list[bool] = []

    def __del__(self) -> None:
        self.closed.append(self.engine.close(drain=False, timeout=30))


@pytest.mark.parametrize("kind", [Service, ClosingService])
def test_one_that_is_forgotten_in_the_decoders_thread_ends(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, kind: type[Service]
) -> None:
    """A thread cannot wait for its own end."""
    ClosingService.closed.clear()
    decoder, decode = pipeline.decoder, type(pipeline.decoder).decode

    def collects(*codes: Any, **more: Any) -> Any:
        gc.collect()  # stands for a collection that an allocation starts
        return decode(*codes, **more)

    monkeypatch.setattr(type(decoder), "decode", collects)
    gc.collect()
    gc.disable()
    try:
        service = kind(PipelineEngine(pipeline, slots=2))
        service.engine.submit(50, label=0)
        del service
        assert ended()
    finally:
        gc.enable()
    assert ClosingService.closed == ([False] if kind is ClosingService else [])


def test_one_that_is_forgotten_while_a_level_holds_the_lock_of_the_next(pipeline: Pipeline) -> None:
    """Whoever waited there for the next one's thread would wait for ever."""
    gc.collect()
    gc.disable()
    try:
        service = Service(PipelineEngine(pipeline, slots=1))
        first, second = service.engine._loops

        def collects() -> None:
            if threading.current_thread() is first._thread:
                gc.collect()

        second._lock = Interrupted(second._lock, collects)  # type: ignore[assignment]
        service.engine.submit(3000, label=0)
        del service
        assert ended()
    finally:
        gc.enable()


def test_nothing_of_a_finished_request_stays(pipeline: Pipeline) -> None:
    """Not even until the next collection: jobs and their course hold each other only while they run."""
    with PipelineEngine(pipeline, slots=2) as engine:
        gc.collect()
        gc.disable()
        try:
            engine.submit(3, label=0).result(30)
            engine.submit(3, label=0).cancel()
            engine.submit(3, label=0).result(30)  # the threads have gone on
            assert engine.close()
            assert not [one for one in gc.get_objects() if type(one) is Course]
        finally:
            gc.enable()
