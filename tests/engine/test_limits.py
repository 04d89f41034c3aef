"""What an engine accepts: limits, priorities, deadlines, wrong arguments; and how it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.errors import DeadlineExpired, QueueFull, RequestError
from pixelsnail_infer.runtime import Engine, Sampler, load

from ..runtime.synthetic import H, L, W
from .faulty import Orders, faulty_sampler


@pytest.fixture
def held(toy: Path) -> Iterator[tuple[Engine, Orders]]:
    """An engine of two slots, four places in the queue and 20 kB, which stands still at its first row."""
    opened, orders = faulty_sampler(toy)
    orders.gate.clear()
    with Engine(opened, slots=2, queue=4, memory=20_000) as engine:
        try:
            yield engine, orders
        finally:
            orders.gate.set()


def busy(engine: Engine, orders: Orders) -> None:
    """Both slots are taken."""
    engine.submit(2, label=0)
    assert orders.entered.acquire(timeout=30)


def test_a_full_queue(held: tuple[Engine, Orders]) -> None:
    engine, orders = held
    busy(engine, orders)
    tickets = [engine.submit(label=0) for _ in range(4)]
    with pytest.raises(QueueFull, match="4 requests wait, which is the limit.*not known yet") as full:
        engine.submit(label=0)
    assert (full.value.limit, full.value.wait) == ("queue", None)
    tickets[2].cancel()
    engine.submit(label=0)  # its place is free at once
    with pytest.raises(QueueFull):
        engine.submit(label=0)
    stats = engine.stats()
    assert (stats.waiting, stats.waiting_images, stats.live, stats.refused) == (4, 4, 2, 2)


def test_free_slots_are_places_too(toy: Path) -> None:
    opened, orders = faulty_sampler(toy)
    orders.gate.clear()
    with Engine(opened, slots=4, queue=1) as engine:
        engine.submit(label=0)
        assert orders.entered.acquire(timeout=30)
        tickets = [engine.submit(label=0) for _ in range(3 + 1)]
        with pytest.raises(QueueFull):
            engine.submit(label=0)
        orders.gate.set()
        assert all(ticket.result(30) is not None for ticket in tickets)


def test_the_estimate_of_the_wait(held: tuple[Engine, Orders]) -> None:
    engine, orders = held
    orders.gate.set()
    engine.submit(label=0).result(30)
    orders.gate.clear()
    engine._level.loop._line.row_seconds = 0.5
    while orders.entered.acquire(blocking=False):
        pass
    busy(engine, orders)
    for _ in range(4):
        engine.submit(3, label=0)
    with pytest.raises(QueueFull, match="about 12 s") as full:
        engine.submit(label=0)
    assert full.value.wait == 4 * 3 * H / 2 * 0.5


def test_memory_is_limited(held: tuple[Engine, Orders]) -> None:
    engine, orders = held
    busy(engine, orders)
    with pytest.raises(RequestError, match="would hold 24000 bytes, but all together may hold 20000"):
        engine.submit(150, label=0)
    known = {"known": np.zeros((60, H, W), int), "known_mask": np.ones((60, H, W), bool), "label": 0}
    with pytest.raises(RequestError, match="would hold"):
        engine.submit(60, **known)  # results 9,600, known pixels 10,800, and the keys
    first = engine.submit(80, label=0)
    with pytest.raises(QueueFull) as full:
        engine.submit(60, label=0)
    assert full.value.limit == "memory" and engine.stats().held_bytes <= 20_000
    first.cancel()
    engine.submit(60, label=0)


def test_conditions_count(sampler: Sampler) -> None:
    with Engine(sampler, memory=100_000) as engine:
        sizes = []
        for label in (1, np.arange(100) % 3):
            with engine.submit(100, label=label) as ticket:
                sizes.append(engine.stats().held_bytes)
                ticket.cancel()
        assert sizes[1] - sizes[0] in (99 * 8, -sizes[0]) and sizes[0] >= 100 * H * W * 8


def test_higher_priorities_go_first(held: tuple[Engine, Orders]) -> None:
    engine, orders = held
    busy(engine, orders)
    tickets = [engine.submit(2, label=0, priority=k) for k in (0, 1, -1)]
    orders.gate.set()
    for ticket in tickets:
        ticket.result(30)
    begun = [ticket.timing.begun for ticket in tickets]
    assert sorted(begun) == [begun[1], begun[0], begun[2]]


def test_deadlines(held: tuple[Engine, Orders], sampler: Sampler) -> None:
    engine, orders = held
    running = engine.submit(2, label=0, deadline=0.02)
    assert orders.entered.acquire(timeout=30)
    waiting, patient = engine.submit(label=0, deadline=0.02), engine.submit(seed=3, label=0, deadline=60)
    time.sleep(0.03)
    orders.gate.set()
    for ticket in (running, waiting):
        with pytest.raises(DeadlineExpired):
            ticket.result(30)
    assert np.array_equal(patient.result(30), sampler.sample(1, seed=3, label=0))
    stats = engine.stats()
    assert (stats.expired, stats.done, stats.failed, stats.cancelled) == (2, 1, 0, 0)
    assert [size for part, size in orders.runs if part == "row"] == [2] + [1] * H


def test_the_longest_deadline_and_numpy_scalars(sampler: Sampler) -> None:
    """A loop that waits until a far deadline goes on; one that nobody has any more is forgotten."""
    with Engine(sampler) as engine:
        far = engine.submit(label=0, deadline=threading.TIMEOUT_MAX, priority=np.int64(1))
        assert far.result(30) is not None
        time.sleep(0.05)  # the loop waits
        assert engine._level.loop._line.until_deadline() is None
        assert engine.submit(label=0, deadline=np.float32(30)).result(30) is not None
        assert engine.submit(label=0, deadline=np.int64(30)).result(30) is not None


def test_a_wait_until_a_far_deadline(held: tuple[Engine, Orders]) -> None:
    """A job that waits for images of another level keeps its loop waiting until its deadline."""
    engine, orders = held
    with engine.submit(label=0) as ticket:
        assert orders.entered.acquire(timeout=30)
        (job,) = engine._level.loop._line.jobs
        job.expires = time.monotonic() + 2 * threading.TIMEOUT_MAX
        job.left += 1  # so that it stays
        orders.gate.set()
        list(zip(range(H), ticket.rows(), strict=False))
        time.sleep(0.05)
        assert engine.submit(label=0).result(30) is not None


@pytest.mark.parametrize("arguments, message", [
    ({"n": 0}, "n is 0"), ({"label": 7}, "label holds 7"), ({}, "label"), ({"label": 0, "seed": -1}, "seed"),
    ({"label": 0, "temperature": float("nan")}, "temperature"), ({"label": 0, "top_p": 0.0}, "top_p"),
    ({"label": 0, "priority": 1.5}, "priority is 1.5"), ({"label": 0, "deadline": 0}, "deadline is 0"),
    ({"label": 0, "deadline": float("nan")}, "deadline is nan"), ({"label": 0, "deadline": 1e10}, "deadline is 1000"),
    ({"label": 0, "deadline": 10**400}, "deadline is 1000"), ({"label": 0, "deadline": np.float32(-1)}, "deadline is"),
    ({"label": 0, "priority": "1"}, "priority is '1'"), ({"label": 0, "priority": True}, "priority is True"),
    ({"label": 0, "max_batch": 2}, "max_batch"),
    ({"label": 0, "known": np.full((H, W), L), "known_mask": np.ones((H, W), bool)}, "known"),
])  # fmt: skip
def test_wrong_arguments_are_refused_at_once(sampler: Sampler, arguments: dict[str, Any], message: str) -> None:
    with Engine(sampler) as engine:
        with pytest.raises(RequestError, match=message):
            engine.submit(**arguments)
        assert engine.stats().held_bytes == 0 and engine.submit(label=0).result(30).shape == (1, H, W)


@pytest.mark.parametrize("settings, message", [
    ({"slots": 0}, "slots is 0"), ({"ladder": [0]}, "ladder is 0"), ({"slots": 4, "ladder": [8]}, "ladder holds 8"),
    ({"ladder": 3}, r"ladder is 3, expected batch sizes, as \[1, 4, 16\]"),
    ({"queue": 0}, "queue is 0"), ({"memory": 0}, "memory is 0"), ({"slots": 10**9}, "An engine of 1000000000 slots"),
])  # fmt: skip
def test_wrong_settings(sampler: Sampler, settings: dict[str, Any], message: str) -> None:
    before = threading.active_count()
    with pytest.raises(RequestError, match=message):
        Engine(sampler, **settings)
    assert threading.active_count() == before


def test_the_callers_arrays_are_copied(held: tuple[Engine, Orders], sampler: Sampler) -> None:
    engine, orders = held
    busy(engine, orders)
    given = {"label": np.array([0, 1]), "known": np.ones((2, H, W), int), "known_mask": np.zeros((2, H, W), bool)}
    given["known_mask"][:, 0, 2] = given["known_mask"][:, 3] = True
    expected = sampler.sample(2, seed=1, **given)
    ticket = engine.submit(2, seed=1, **given)
    for array in given.values():
        array[...] = 0
    orders.gate.set()
    assert np.array_equal(ticket.result(30), expected)


def test_any_byte_but_zero_of_a_mask_is_true(toy: Path, sampler: Sampler) -> None:
    """A mask of a file, or of `view(bool)`, may hold bytes other than 0 and 1."""
    mask = np.arange(H * W).reshape(H, W) % 2 == 0
    expected = sampler.sample(2, seed=1, label=0, known=np.full((H, W), 3), known_mask=mask)
    assert (expected[:, mask] == 3).all()
    with Engine(sampler, slots=2) as engine:
        for byte in (2, 255):
            odd = (mask.astype(np.uint8) * byte).view(bool)
            ticket = engine.submit(2, seed=1, label=0, known=np.full((H, W), 3), known_mask=odd)
            assert np.array_equal(ticket.result(30), expected)


def test_without_filters_and_completion(toy: Path) -> None:
    """Their graphs are not loaded then: their files may be missing."""
    opened, orders = faulty_sampler(toy)
    asked = []
    graphs = opened._work._graphs
    opened._work._graphs = lambda part: (asked.append(part), graphs(part))[1]
    with Engine(opened, filters=False, completion=False) as engine:
        assert set(asked) == {"row", "step", "prologue"}
        some = {"known": np.zeros((H, W), int), "known_mask": np.eye(H, W, dtype=bool)}
        for name, arguments in (("filters", {"top_k": 2}), ("filters", {"top_p": 0.5}), ("completion", some)):
            with pytest.raises(RequestError, match=f"{name}=False"):
                engine.submit(label=0, **arguments)
        assert engine.submit(label=0, top_k=L, top_p=1.0).result(30) is not None
        small = engine.buffer_bytes
    with Engine(opened) as engine:
        assert engine.buffer_bytes > small and {"filtered", "score"} <= set(asked)


def test_buffers_do_not_grow(toy: Path) -> None:
    """Whatever is asked for, nothing is allocated after the start."""
    with load(toy, threads=1) as sampler:
        backend, allocate = sampler._work._backend, []
        original = backend.allocate
        backend.allocate = lambda shape, dtype: (allocate.append(shape), original(shape, dtype))[1]
        with Engine(sampler, slots=4) as engine:
            assert sum(1 for _ in allocate) > 0
            allocate.clear()
            mask = np.broadcast_to(np.arange(H)[:, None] < 2, (H, W))
            for n in (1, 3, 7):
                engine.submit(n, label=0, top_p=0.5, known=np.zeros((H, W), int), known_mask=mask).result(30)
            assert allocate == []
