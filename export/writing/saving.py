"""Bytes to the disk."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["save"]


def save(data: bytes, path: Path) -> None:
    """Write a file; it is on the disk when this returns. Raises `OSError`."""
    with open(path, "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
