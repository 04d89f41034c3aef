"""Clients: some number at once, each asking again when it has its image; or requests that come at a rate by chance."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

Ask = Callable[[int], object]
WAITING = 512  # requests that may be open at once where they come at a rate


@dataclass(frozen=True, slots=True)
class Served:
    """Images per second, and seconds until a request had its image: half of them, 95 and 99 of 100 were quicker."""

    rate: float
    p50: float
    p95: float
    p99: float


def closed(ask: Ask, clients: int, seconds: float) -> Served:
    """`clients` clients ask again and again for so many seconds; images that came within them count."""
    numbers, taken, lock = itertools.count(), list[float](), threading.Lock()
    start = time.perf_counter()
    until = start + seconds

    def client() -> None:
        while (asked := time.perf_counter()) < until:
            ask(next(numbers))
            ended = time.perf_counter()
            if ended < until:
                with lock:
                    taken.append(ended - asked)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _served(taken, seconds)


def offered(ask: Ask, seed: int, *, rate: float, seconds: float) -> Served:
    """Requests come by chance, `rate` a second on average (a Poisson process), whether others wait or not. The rate
    that comes out is that of answers until the last one."""
    dice, numbers = random.Random(seed), itertools.count()
    moments, moment = list[float](), 0.0
    while (moment := moment + dice.expovariate(rate)) < seconds:
        moments.append(moment)
    start = time.perf_counter()

    def client(due: float) -> float:
        ask(next(numbers))
        return time.perf_counter() - start - due

    with ThreadPoolExecutor(WAITING) as pool:
        futures = []
        for due in moments:
            time.sleep(max(start + due - time.perf_counter(), 0))
            futures.append(pool.submit(client, due))
        taken = [future.result() for future in futures]
    return _served(taken, time.perf_counter() - start)


def _served(taken: Sequence[float], seconds: float) -> Served:
    p50, p95, p99 = np.percentile(taken, [50, 95, 99]) if taken else (float("nan"),) * 3
    return Served(len(taken) / seconds, float(p50), float(p95), float(p99))
