"""Clients in threads against an `Engine` whose backend fails and stalls at random.

Clients wait for results, read rows quickly, slowly or not to the end, cancel at any time, and set deadlines. Every
accepted request must end once: in exactly the images that `sample` gives, or in an error that it may have.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from faults import Dice, faulty
from outcomes import Outcomes
from watching import Memory, open_files, others
from wishes import Wish

from pixelsnail_infer.errors import DeadlineExpired, EngineClosed, EngineError, QueueFull, RequestCancelled
from pixelsnail_infer.runtime import Engine, Ticket

PATIENCE = 120.0  # seconds after which a request counts as lost
WAYS = ("result", "rows", "slow rows", "abandoned rows", "cancel", "cancel later", "deadline", "short deadline")
QUEUE, SLOTS = 16, 8


def against_engine(path: Path, pool: Sequence[Wish], requests: int, clients: int, seed: int, threads: int | None
                   ) -> tuple[Outcomes, dict[str, Any]]:
    """`requests` requests by `clients` clients; what became of them, and figures."""
    outcomes, dice, memory = Outcomes(), Dice(0.0005, 0.0005, seed), Memory(max(requests // 20, 1))
    before, files = others(), open_files()
    started = time.monotonic()
    with faulty(path, dice, threads) as sampler:
        engine = Engine(sampler, slots=SLOTS, queue=QUEUE)
        left = iter(range(requests))
        workers = [threading.Thread(target=_client, args=(engine, pool, left, random.Random(seed + k), outcomes,
                                                          memory)) for k in range(clients)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        _close(engine, pool, random.Random(seed), outcomes)
        stats = engine.stats()
    seconds = time.monotonic() - started
    if left_over := others() - before:
        outcomes.fault(f"threads are left: {sorted(left_over)}")
    if open_files() > files:
        outcomes.fault(f"{open_files() - files} open files are left")
    ended = stats.done + stats.failed + stats.expired + stats.cancelled
    accepted = sum(count for kind, count in outcomes.counts.items() if kind != "queue full")
    if ended != accepted or stats.held_bytes or stats.waiting or stats.live:
        outcomes.fault(f"the engine counts {ended} ended requests of {accepted}, and still holds {stats.held_bytes} B")
    figures = {"requests": outcomes.total, "seconds": seconds, "failures": dice.failed, "stalls": dice.stalled,
               "images": stats.images, "occupancy": stats.rows / max(stats.slot_rows, 1),
               "memory": memory.seen, "growth_bytes": memory.growth(requests // 10)}
    return outcomes, figures


def _client(engine: Engine, pool: Sequence[Wish], left: Any, dice: random.Random, outcomes: Outcomes, memory: Memory
            ) -> None:
    for _ in left:
        wish, way = dice.choice(pool), dice.choice(WAYS)
        deadline = {"deadline": 60.0, "short deadline": dice.random() * 0.2}.get(way)
        try:
            ticket = engine.submit(**wish.arguments, priority=dice.choice((0, 0, 0, 1, -1)), deadline=deadline)
        except QueueFull as full:
            outcomes.count("queue full")
            time.sleep(min(full.wait or 0.01, 0.05))
        else:
            _settle(ticket, wish, way, dice, outcomes)
        memory.look(outcomes.total)


def _settle(ticket: Ticket[Any], wish: Wish, way: str, dice: random.Random, outcomes: Outcomes) -> None:
    """Do with an accepted request what `way` says, and see what it ends in."""
    if way in ("cancel", "cancel later"):
        time.sleep(dice.random() * 0.05 if way == "cancel later" else 0)
        ticket.cancel()
    try:
        if way in ("rows", "slow rows", "abandoned rows"):
            _read(ticket, wish, way, outcomes)
        images = ticket.result(PATIENCE)
    except TimeoutError:
        outcomes.fault(f"a request ({way}) was not answered within {PATIENCE:g} s")
        outcomes.count("lost")
    except (RequestCancelled, DeadlineExpired, EngineError, EngineClosed) as error:
        expected = {RequestCancelled: ("cancel", "cancel later"), DeadlineExpired: ("deadline", "short deadline")}
        if way not in expected.get(type(error), (way,)):
            outcomes.fault(f"a request ({way}) ended in {type(error).__name__}")
        outcomes.count(type(error).__name__)
    else:
        outcomes.count("images")
        if not np.array_equal(images, wish.images):
            outcomes.fault(f"a request ({way}) got other images than `sample` gives: {wish.arguments}")


def _read(ticket: Ticket[Any], wish: Wish, way: str, outcomes: Outcomes) -> None:
    """Rows as they come: each once, in order, and the right ones."""
    following = dict.fromkeys(range(len(wish.images)), 0)
    for number, row in enumerate(ticket.rows()):
        if row.row != following[row.image] or not np.array_equal(row.pixels, wish.images[row.image, row.row]):
            outcomes.fault(f"row {row.row} of image {row.image} came wrong or not in its turn")
        following[row.image] += 1
        if way == "abandoned rows" and number == 2:
            return
        time.sleep(0.005 if way == "slow rows" else 0)


def _close(engine: Engine, pool: Sequence[Wish], dice: random.Random, outcomes: Outcomes) -> None:
    """Close while requests wait and are drawn: all of them end."""
    tickets = [engine.submit(**dice.choice(pool).arguments) for _ in range(QUEUE // 2)]  # so many always fit
    if not engine.close(drain=False, timeout=PATIENCE):
        outcomes.fault("the engine did not end when it was closed")
    for ticket in tickets:
        try:
            ticket.result(1)
            outcomes.count("images")
        except (EngineClosed, EngineError) as error:
            outcomes.count(type(error).__name__)
        except TimeoutError:
            outcomes.fault("a request was lost when the engine was closed")
            outcomes.count("lost")
