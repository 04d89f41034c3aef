"""What a signal handler or the garbage collector interrupts: nobody waits for ever, wherever it was."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pixelsnail_infer.runtime import Engine

from .faulty import Orders, faulty_sampler


class Interrupted:
    """A lock; as soon as it is held something else happens in the same thread."""

    def __init__(self, lock: Any, then: Callable[[], object]) -> None:
        self._lock, self._then = lock, then

    def __enter__(self) -> None:
        self._lock.acquire()
        self._then()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class Service:
    """Holds itself, as services do: only the garbage collector finds it."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.me = engine, self


@pytest.fixture
def forgotten(toy: Path) -> Iterator[tuple[Callable[[], Service], Orders]]:
    """Makes a service with an engine of one slot; collections come only when they are asked for."""
    opened, orders = faulty_sampler(toy)
    gc.collect()
    gc.disable()
    yield lambda: Service(Engine(opened, slots=1)), orders
    gc.enable()


@pytest.mark.parametrize("where", ["delivery", "loop"])
def test_an_engine_that_is_collected_inside_of_a_locked_part(
    forgotten: tuple[Callable[[], Service], Orders], where: str
) -> None:
    make, orders = forgotten
    service = make()
    orders.gate.clear()
    ticket = service.engine.submit(5000, label=0)
    assert orders.entered.acquire(timeout=30)
    loop = service.engine._level.loop
    locked: Any = ticket._delivery if where == "delivery" else loop
    locked._lock = Interrupted(locked._lock, gc.collect)
    del service, ticket, locked
    orders.gate.set()
    loop._thread.join(30)
    assert not loop._thread.is_alive()
    assert len([part for part, _ in orders.runs if part == "row"]) == 1


def test_an_engine_that_is_collected_as_its_thread_goes_to_sleep(
    forgotten: tuple[Callable[[], Service], Orders]
) -> None:
    """After it has looked whether it is to end, and before it waits."""
    make, _ = forgotten
    service = make()
    loop, until = service.engine._level.loop, service.engine._level.loop._line.until_deadline
    loop._line.until_deadline = lambda: (gc.collect(), until())[1]  # type: ignore[method-assign]
    held = [service]
    ticket = service.engine.submit(label=0)
    del service
    ticket._delivery._end_wakers.append(held.clear)  # forgotten with its request
    del ticket
    loop._thread.join(30)
    assert not loop._thread.is_alive()


SIGNALS = """
import signal, sys, threading
from pixelsnail_infer.errors import EngineClosed
from pixelsnail_infer.runtime import Engine, load
from tests.engine.test_interrupted import Interrupted

engine = Engine(load(sys.argv[1], threads=1), slots=1)
ticket = engine.submit(5000, label=0)
signal.signal(signal.SIGTERM, lambda *_: engine.close(drain=False, timeout=0))
coming = [signal.SIGTERM]
def term():
    if threading.current_thread() is threading.main_thread() and coming:
        signal.raise_signal(coming.pop())
where = {"ticket": ticket._delivery, "engine": engine._level.loop}[sys.argv[2]]
where._lock = Interrupted(where._lock, term)
calls = {
    "rows": lambda: list(ticket.rows()), "result": ticket.result, "stats": lambda: (engine.stats(), ticket.result())
}
try:
    calls[sys.argv[3]]()
except EngineClosed:
    print("closed", engine.close())
"""


@pytest.mark.parametrize("where, call", [("ticket", "rows"), ("ticket", "result"), ("engine", "stats")])
def test_a_signal_handler_that_closes_the_engine(toy: Path, where: str, call: str) -> None:
    """It comes while the main thread is in a locked part."""
    done = subprocess.run([sys.executable, "-c", SIGNALS, str(toy), where, call],
                          capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2])  # fmt: skip
    assert (done.stdout, done.stderr) == ("closed True\n", "")


def test_waits_of_any_length(forgotten: tuple[Callable[[], Service], Orders]) -> None:
    make, _ = forgotten
    engine = make().engine
    for timeout in (float("inf"), 1e10, threading.TIMEOUT_MAX, None):
        assert engine.submit(label=0).result(timeout) is not None
    for timeout in (-1, 0):
        with engine.submit(5000, label=0) as ticket, pytest.raises(TimeoutError):
            ticket.result(timeout)
    assert engine.close(timeout=1e10) and engine.close(timeout=float("inf"))
