"""The sha256 of a file that may be larger than memory."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

__all__ = ["sha256_of"]

_CHUNK = 1 << 20


def sha256_of(file: BinaryIO) -> str:
    """The sha256 of all bytes of an open file, in hexadecimal digits. Raises `OSError`."""
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
