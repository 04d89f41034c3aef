"""How often each shard was begun, in a process of its own that outlives the workers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import ray

from pixelsnail_infer.errors import EngineError

__all__ = ["Attempts", "counted_attempts"]


class Attempts:
    """Counts. Ray Data begins a shard again whenever its worker dies, and would do so for ever."""

    def __init__(self, most: int) -> None:
        self._most, self._begun = most, Counter[int]()

    def begin(self, shard: int) -> None:
        """Count a shard that is about to be drawn. Raises `EngineError` when it was begun `most` times before."""
        if self._begun[shard] >= self._most:
            what = f"shard {shard} was begun {self._most} times, and its worker died each time"
            raise EngineError(f"{what}; where memory ran out give fewer --workers, or a smaller --max-batch.")
        self._begun[shard] += 1


def counted_attempts(most: int) -> Any:
    """A Ray actor that is an `Attempts`; one that died begins to count anew."""
    return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts).remote(most)
