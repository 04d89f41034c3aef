"""Results, rows, and waiting for them in threads and in asyncio."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pixelsnail_infer.errors import RequestCancelled
from pixelsnail_infer.runtime import Engine, Sampler
from pixelsnail_infer.runtime.engine.delivery import Delivery, Row

from ..runtime.synthetic import H, W
from .faulty import Orders, faulty_sampler


@pytest.fixture
def held(toy: Path) -> Iterator[tuple[Engine, Orders]]:
    """An engine of two slots that stands still at its first row until the gate is opened."""
    opened, orders = faulty_sampler(toy)
    orders.gate.clear()
    with Engine(opened, slots=2) as engine:
        try:
            yield engine, orders
        finally:
            orders.gate.set()


def picture(rows: list[Row], n: int) -> np.ndarray:
    drawn = np.full((n, H, W), -1)
    for row in rows:
        drawn[row.image, row.row] = row.pixels
    return drawn


def test_result_waits_no_longer_than_asked(held: tuple[Engine, Orders], sampler: Sampler) -> None:
    engine, orders = held
    ticket = engine.submit(3, seed=4, label=1)
    with pytest.raises(TimeoutError):
        ticket.result(0.01)
    assert not ticket.done and not ticket._delivery._end_wakers
    orders.gate.set()
    assert np.array_equal(ticket.result(30), sampler.sample(3, seed=4, label=1)) and ticket.done
    assert ticket.result() is ticket.result(0)


def test_rows_come_as_they_are_drawn_and_to_every_reader(held: tuple[Engine, Orders], sampler: Sampler) -> None:
    engine, orders = held
    ticket = engine.submit(3, seed=4, label=1)
    reader = ticket.rows()
    orders.gate.set()
    first = next(reader)
    rows = [first, *reader]
    assert first.row == 0 and not first.stage
    assert np.array_equal(picture(rows, 3), sampler.sample(3, seed=4, label=1))
    for image in range(3):
        assert [row.row for row in rows if row.image == image] == list(range(H))
    for row in rows:
        row.pixels[:] = -1  # a copy
    assert np.array_equal(ticket.result(), sampler.sample(3, seed=4, label=1))


def test_a_slow_reader_delays_nothing_and_keeps_nothing(engine_of: Engine) -> None:
    ticket = engine_of.submit(20, label=0)
    slow = ticket.rows()
    next(slow)
    assert ticket.result(30).shape[0] == 20
    assert ticket._delivery._row_wakers == []
    assert len(list(slow)) == 20 * H - 1


@pytest.fixture
def engine_of(sampler: Sampler) -> Iterator[Engine]:
    with Engine(sampler, slots=4) as engine:
        yield engine


def test_the_first_row_comes_while_others_are_being_drawn(held: tuple[Engine, Orders]) -> None:
    """One that comes during a row gets its first row with the next one."""
    engine, orders = held
    first = engine.submit(label=0)
    assert orders.entered.acquire(timeout=30)
    second = engine.submit(label=1)
    orders.gate.set()
    rows = []
    while not (rows and rows[-1] == "second"):
        rows.append("second" if second._delivery.timing.first_row else "none")
        threading.Event().wait(0.001)
    assert first.timing.first_row is not None and second.timing.first_row is not None
    assert first.result(30) is not None and second.result(30) is not None
    assert [size for part, size in orders.runs if part == "row"] == [1, 2, 2, 2, 1]


def test_cancelled_requests_free_their_slots(held: tuple[Engine, Orders], sampler: Sampler) -> None:
    engine, orders = held
    running, waiting = engine.submit(2, label=0), engine.submit(2, label=0)
    assert orders.entered.acquire(timeout=30)
    after = engine.submit(seed=8, label=2)
    assert waiting.cancel() and running.cancel() and not running.cancel()
    for ticket in (running, waiting):
        assert ticket.done
        with pytest.raises(RequestCancelled):
            ticket.result()
        with pytest.raises(RequestCancelled):
            list(ticket.rows())
    orders.gate.set()
    assert np.array_equal(after.result(30), sampler.sample(1, seed=8, label=2))
    assert [size for part, size in orders.runs if part == "row"] == [2] + [1] * H
    assert not after.cancel()
    assert engine.stats().cancelled == 2


def test_with_cancels_what_is_not_finished(held: tuple[Engine, Orders]) -> None:
    engine, orders = held
    with engine.submit(label=0) as ticket:
        pass
    with pytest.raises(RequestCancelled):
        ticket.result(0)
    orders.gate.set()
    with engine.submit(label=0) as ticket:
        ticket.result(30)
    assert ticket.result(0) is not None


def test_timing(engine_of: Engine) -> None:
    ticket = engine_of.submit(2, label=0)
    ticket.result(30)
    times = ticket.timing
    assert times.begun is not None and times.first_row is not None and times.ended is not None
    assert times.submitted <= times.begun <= times.first_row <= times.ended


def test_asyncio(engine_of: Engine, sampler: Sampler) -> None:
    async def rows(seed: int) -> np.ndarray:
        return picture([row async for row in engine_of.submit(2, seed=seed, label=0)], 2)

    async def main() -> list[np.ndarray]:
        results = [engine_of.submit(2, seed=k, label=0) for k in range(10)]
        drawn = await asyncio.gather(*(rows(k) for k in range(10)))
        finished = [await ticket for ticket in results]
        assert await results[0] is finished[0]
        return [*drawn, *finished]

    for k, found in enumerate(asyncio.run(main())):
        assert np.array_equal(found, sampler.sample(2, seed=k % 10, label=0))


def test_asyncio_that_stops_waiting(held: tuple[Engine, Orders]) -> None:
    """To stop waiting leaves nothing behind, and does not cancel; the error of a cancelled request arrives."""
    engine, orders = held

    async def main() -> None:
        ticket = engine.submit(label=0)
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(ticket, 0.01)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(aiter(ticket)), 0.01)
        assert not ticket.done and ticket._delivery._end_wakers == ticket._delivery._row_wakers == []
        waiting = asyncio.ensure_future(ticket._ended())
        await asyncio.sleep(0)
        ticket.cancel()
        with pytest.raises(RequestCancelled):
            await waiting

    asyncio.run(main())


def test_an_event_loop_that_is_gone_stops_nobody(held: tuple[Engine, Orders]) -> None:
    engine, orders = held
    ticket = engine.submit(label=0)
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(ticket._ended())
    loop.run_until_complete(asyncio.sleep(0))
    waiting.cancel()
    late = engine.submit(label=1)
    loop.create_task(late._ended())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    orders.gate.set()
    assert ticket.result(30) is not None and late.result(30) is not None


def test_a_blocked_event_loop_gets_one_call_however_many_rows_come() -> None:
    delivery, calls = Delivery([np.zeros((1, 50, 3), np.int64)]), []
    seen = delivery.start()
    assert delivery.fresh(seen, lambda: calls.append(1)) == []
    for row in range(50):
        delivery.put(0, row, np.ones(3))
    assert calls == [1]
    assert [row.row for row in delivery.rows(delivery.fresh(seen, list) or [])] == list(range(50))


def test_a_row_that_is_drawn_again_is_not_delivered_again() -> None:
    delivery = Delivery([np.zeros((1, 5, 3), np.int64)])
    seen = delivery.start()
    for row in (0, 1):
        delivery.put(0, row, np.ones(3))
    assert len(list(delivery.rows(delivery.fresh(seen, list) or []))) == 2
    for row in (0, 1, 2):
        delivery.put(0, row, np.full(3, 2))
        found = list(delivery.rows(delivery.fresh(seen, list) or []))
        assert [one.row for one in found] == ([2] if row == 2 else [])
    assert delivery.pixels[0][0, :, 0].tolist() == [1, 1, 2, 0, 0]


def test_nothing_of_a_finished_request_stays(engine_of: Engine) -> None:
    gc.collect()
    gc.disable()
    try:
        done, failed = engine_of.submit(3, label=0), engine_of.submit(300, label=0)
        done.result(30)
        failed.cancel()
        with pytest.raises(RequestCancelled):
            failed.result()
        engine_of.submit(label=0).result(30)  # the loop has gone on to another row
        dead = [weakref.ref(ticket._delivery) for ticket in (done, failed)]
        del done, failed
        assert [reference() for reference in dead] == [None, None]
    finally:
        gc.enable()
