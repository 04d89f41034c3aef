"""A service of the toy model whose rows wait for a gate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pixelsnail_infer.runtime import Engine
from pixelsnail_infer.runtime.serving.served import ServedPrior

from ..engine.faulty import Orders, faulty_sampler
from .running import Running, running, until

BODY = {"label": 1, "format": "json"}


@contextmanager
def held(path: Path, *, slots: int = 2, queue: int = 2, **options: Any) -> Iterator[tuple[Running, Orders]]:
    """While `orders.gate` is clear, nothing is drawn. Its end opens the gate."""
    sampler, orders = faulty_sampler(path)
    engine = Engine(sampler, slots=slots, queue=queue)
    orders.gate.clear()
    with running(lambda: {"toy": ServedPrior("toy", ("toy.onnx",), engine)}, **options) as made:
        try:
            yield made, orders
        finally:
            orders.gate.set()


def taken(made: Running, count: int) -> None:
    """Wait until the engine has so many unfinished images. (While the gate is clear, only the first is in a slot.)"""
    until(lambda: made.stats("toy")["live"] + made.stats("toy")["waiting_images"] == count)
