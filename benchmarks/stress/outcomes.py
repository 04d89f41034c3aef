"""What became of requests: every one is counted once, and what must not happen is written down."""

from __future__ import annotations

import threading
from collections import Counter


class Outcomes:
    """Counts by kind, and faults in words. Any thread."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._lock = threading.Lock()

    def count(self, kind: str) -> None:
        with self._lock:
            self.counts[kind] += 1

    def fault(self, words: str) -> None:
        """Something that must not happen."""
        with self._lock:
            self.wrong.append(words)

    @property
    def total(self) -> int:
        with self._lock:
            return sum(self.counts.values())
