"""What a process holds: memory, threads, open files."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path


def resident(process: int | None = None) -> int:
    """Bytes of memory that a process (this one) has in use."""
    pages = Path(f"/proc/{process or os.getpid()}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def open_files(process: int | None = None) -> int:
    """How many files and sockets it has open."""
    return len(os.listdir(f"/proc/{process or os.getpid()}/fd"))


@dataclass
class Memory:
    """Memory at every `every`-th finished request."""

    every: int
    process: int | None = None
    seen: list[tuple[int, int]] = field(default_factory=list)

    def look(self, finished: int) -> None:
        if finished // self.every >= len(self.seen):
            self.seen.append((finished, resident(self.process)))

    def growth(self, first: int) -> int:
        """Bytes from request `first` on to the largest later."""
        later = [held for finished, held in self.seen if finished >= first]
        return max(later) - later[0] if later else 0


def others() -> set[str]:
    """Names of the threads that run."""
    return {thread.name for thread in threading.enumerate()}
