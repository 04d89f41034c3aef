"""Random requests for a model, and the comparison of what an engine makes of them with `sample`."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from pixelsnail_infer.errors import RequestCancelled
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime import Engine, Sampler, Ticket

Arguments = dict[str, Any]


def random_request(manifest: Manifest, rng: np.random.Generator, most: int = 6) -> Arguments:
    """Arguments of `sample`: conditions, and often filters, temperatures and known pixels."""
    n = int(rng.integers(1, most + 1))
    some: Arguments = {"n": n, "seed": int(rng.integers(1 << 40))}
    for spec in manifest.conditions:
        shape = (n, *spec.shape) if rng.random() < 0.5 else spec.shape
        levels = spec.levels
        some[spec.name] = rng.integers(0, levels, shape) if levels else rng.normal(size=shape).astype(np.float32)
    if rng.random() < 0.4:
        some["temperature"] = rng.choice([0.0, 0.5, 1.0, 1.7], n)
    if manifest.pixel.kind == "codes" and rng.random() < 0.4:
        some["top_p"] = rng.choice([0.3, 0.8, 1.0], n)
    if manifest.pixel.kind == "codes" and rng.random() < 0.4:
        some["top_k"] = rng.integers(1, manifest.levels + 1, n)
    if rng.random() < 0.4:
        rows = rng.integers(0, manifest.height + 1, n)[:, None, None]
        some["known_mask"] = (np.arange(manifest.height)[:, None] < rows) | (rng.random((n, *manifest.shape)) < 0.3)
        some["known"] = known_pixels(manifest, rng, n)
    return some


def known_pixels(manifest: Manifest, rng: np.random.Generator, n: int) -> np.ndarray:
    if manifest.pixel.kind == "codes":
        return rng.integers(0, manifest.levels, (n, *manifest.shape))
    return rng.uniform(-1, 1, (n, *manifest.shape, manifest.pixel.channels)).astype(np.float32)


def equal_bits(found: np.ndarray, expected: np.ndarray) -> bool:
    return found.dtype == expected.dtype and np.array_equal(found, expected)


def check(sampler: Sampler, engine: Engine, requests: list[Arguments], cancelled: float = 0.2,
          equal: Callable[[np.ndarray, np.ndarray], bool] = equal_bits, clients: int = 4) -> int:
    """Submit from several threads at random times, cancel some at random times, compare the others with `sample`;
    returns how many were compared."""
    held: list[tuple[Arguments, Ticket[Any]]] = []
    lock = threading.Lock()

    def client(mine: list[Arguments], seed: int) -> None:
        dice = random.Random(seed)
        for arguments in mine:
            ticket = engine.submit(**arguments)
            with lock:
                held.append((arguments, ticket))
            if dice.random() < cancelled:
                threading.Event().wait(dice.random() * 0.01)
                ticket.cancel()
            elif dice.random() < 0.3:
                ticket.result(60)

    threads = [threading.Thread(target=client, args=(requests[k::clients], k)) for k in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    compared = 0
    for arguments, ticket in held:
        try:
            found = ticket.result(60)
        except RequestCancelled:
            continue
        assert equal(found, sampler.sample(**arguments)), arguments
        compared += 1
    assert len(held) == len(requests)
    return compared
