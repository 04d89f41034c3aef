"""A model whose images are there at once, and large: what is looked at is how they are sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from pixelsnail_infer.runtime.engine.delivery import Delivery
from pixelsnail_infer.runtime.engine.ticket import Ticket
from pixelsnail_infer.runtime.serving.served import Served

from .running import Running, running

SHAPE = (256, 256, 3)
MANY = {"n": 24, "format": "npy"}
"""An answer of 19 MB, more than the system's own buffers hold."""


class Large(Served):
    """Images of zeros; `closed` is set when the service gives the model up."""

    conditions = ()
    manifests = ()
    image_shape = SHAPE
    values = "pixels"
    stages = [{"shape": list(SHAPE), "levels": None}]
    levels = None
    closed = threading.Event()

    def submit(self, n: int, arguments: dict[str, Any]) -> Ticket[Any]:
        delivery = Delivery([np.zeros((n, *SHAPE), np.float32)])
        for image in range(n):
            for row in range(SHAPE[0]):
                delivery.put(image, row, delivery.pixels[0][image, row])
        delivery.end(delivery.pixels[0])
        return Ticket(delivery, lambda: None)

    def result(self, value: Any) -> Any:
        return value

    def stats(self) -> list[Any]:
        return []

    def close(self) -> None:
        self.closed.set()


@contextmanager
def large(**options: Any) -> Iterator[Running]:
    """A service of this model."""
    Large.closed.clear()
    with running(lambda: {"large": Large("large", ("l",))}, **options) as made:
        yield made
