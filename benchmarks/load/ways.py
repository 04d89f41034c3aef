"""Three ways to serve single images to many clients: a lock around `sample`, batches that wait to fill, the engine."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.runtime import Engine, Sampler

Image = NDArray[Any]
Conditions = dict[str, Any]

FILL = 0.02  # seconds that a batch which is not full waits for more


class Way(Protocol):
    """Serves images; any thread may ask."""

    name: str

    def ask(self, seed: int, conditions: Conditions) -> Image:
        """The image of a seed; blocks until it is there."""
        ...

    def close(self) -> None: ...


class Locked:
    """One call at a time."""

    name = "lock around sample"

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def ask(self, seed: int, conditions: Conditions) -> Image:
        image: Image = self._sampler.sample(1, seed=[seed], **conditions)[0]  # calls wait for each other in it
        return image

    def close(self) -> None:
        pass


class Filling:
    """Batches of up to `slots` images; one that is not full starts after `FILL` seconds."""

    name = "batches that wait to fill"

    def __init__(self, sampler: Sampler, slots: int) -> None:
        self._sampler, self._slots = sampler, slots
        self._asked: queue.SimpleQueue[tuple[int, Conditions, Future[Image]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def ask(self, seed: int, conditions: Conditions) -> Image:
        future: Future[Image] = Future()
        self._asked.put((seed, conditions, future))
        return future.result()

    def close(self) -> None:
        self._asked.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._asked.get()) is not None:
            batch, until, ended = [first], time.monotonic() + FILL, False
            while len(batch) < self._slots and not ended:
                try:
                    more = self._asked.get(timeout=max(until - time.monotonic(), 0))
                except queue.Empty:
                    break
                ended = more is None
                batch += [] if more is None else [more]
            seeds = [seed for seed, _, _ in batch]
            conditions = {name: np.stack([held[name] for _, held, _ in batch]) for name in batch[0][1]}
            images = self._sampler.sample(len(batch), seed=seeds, max_batch=self._slots, **conditions)
            for (_, _, future), image in zip(batch, images, strict=True):
                future.set_result(image)
            if ended:
                return


class Running:
    """Images join and leave at every row."""

    name = "engine"

    def __init__(self, sampler: Sampler, slots: int) -> None:
        self._engine = Engine(sampler, slots=slots, queue=100_000, memory=1 << 30)

    def ask(self, seed: int, conditions: Conditions) -> Image:
        image: Image = self._engine.submit(1, seed=[seed], **conditions).result()[0]
        return image

    def close(self) -> None:
        self._engine.close()
