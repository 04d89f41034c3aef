"""How an engine ends: drained, given up, forgotten, with the process, or in a fork."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from pixelsnail_infer.errors import EngineClosed
from pixelsnail_infer.runtime import Engine, Sampler, load

from .faulty import faulty_sampler


def engine_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "pixelsnail-engine"]


def test_close_drains(sampler: Sampler) -> None:
    engine = Engine(sampler, slots=2)
    tickets = [engine.submit(3, seed=k, label=0) for k in range(20)]
    assert engine.close() and engine.close() and not engine_threads()
    for k, ticket in enumerate(tickets):
        assert np.array_equal(ticket.result(0), sampler.sample(3, seed=k, label=0))
    with pytest.raises(EngineClosed, match="closed"):
        engine.submit(label=0)
    assert engine.stats().done == 20 and engine.stats().live == 0


def test_close_gives_up_also_while_it_drains(toy: Path) -> None:
    opened, orders = faulty_sampler(toy)
    orders.gate.clear()
    engine = Engine(opened, slots=2)
    tickets = [engine.submit(2, label=0) for _ in range(5)]
    assert not engine.close(timeout=0.01)
    with pytest.raises(EngineClosed):
        engine.submit(label=0)
    assert not any(ticket.done for ticket in tickets)
    assert not engine.close(drain=False, timeout=0.01)  # a row is being drawn
    assert all(ticket.done for ticket in tickets)
    orders.gate.set()
    assert engine.close() and not engine_threads()
    for ticket in tickets:
        with pytest.raises(EngineClosed, match="before the request was finished"):
            ticket.result(0)
    assert len([part for part, _ in orders.runs if part == "row"]) == 1


def test_the_block_drains_or_gives_up(sampler: Sampler) -> None:
    with Engine(sampler, slots=2) as engine:
        ticket = engine.submit(20, label=0)
    assert ticket.result(0).shape[0] == 20
    with pytest.raises(KeyError), Engine(sampler, slots=1) as engine:
        ticket = engine.submit(5000, label=0)
        raise KeyError
    with pytest.raises(EngineClosed):
        ticket.result(0)
    assert not engine_threads()


def test_the_sampler_may_be_used_beside_it_and_closed_before_it(toy: Path, sampler: Sampler) -> None:
    own = load(toy, threads=1)
    with Engine(own) as engine:
        ticket = engine.submit(4, seed=2, label=1)
        assert np.array_equal(own.sample(4, seed=2, label=1), ticket.result(30))
        own.close()
        later = engine.submit(2, seed=1, label=1, top_k=2)
        assert np.array_equal(later.result(30), sampler.sample(2, seed=1, label=1, top_k=2))


def test_one_that_is_forgotten_ends(sampler: Sampler) -> None:
    """But not while somebody holds a ticket."""
    ticket = Engine(sampler).submit(30, label=0)
    gc.collect()
    assert ticket.result(30).shape[0] == 30
    assert engine_threads()
    thread = engine_threads()[0]
    del ticket
    gc.collect()
    thread.join(30)
    assert not engine_threads()


def test_python_ends_with_work_left(toy: Path) -> None:
    program = (
        "import sys; from pixelsnail_infer.runtime import Engine, load\n"
        "engine = Engine(load(sys.argv[1], threads=1), slots=1)\n"
        "ticket = engine.submit(20000, label=0); next(ticket.rows()); print('begun')"
    )
    done = subprocess.run([sys.executable, "-c", program, str(toy)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "begun\n", "")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_needs_an_engine_of_its_own(sampler: Sampler) -> None:
    with Engine(sampler) as engine:
        child = os.fork()
        if not child:
            code = 1
            try:
                engine.submit(label=0)
            except EngineClosed:
                try:
                    engine.close()
                except EngineClosed:
                    code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert engine.submit(label=0).result(30) is not None


def test_an_idle_engine_does_not_poll(sampler: Sampler) -> None:
    with Engine(sampler) as engine:
        engine.submit(label=0).result(30)
        loop, calls = engine._level.loop, []
        original = loop._next
        loop._next = lambda: (calls.append(1), original())[1]
        threading.Event().wait(0.2)
        assert len(calls) <= 2  # an earlier ring may wake it once
