"""Opening a file that somebody else named: regular files only, because a pipe or a terminal can make a reader wait for
ever, and a device may have no end."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

__all__ = ["machine_memory", "open_plain"]

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}
_FLAGS = sum(getattr(os, name, 0) for name in ("O_RDONLY", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))


def open_plain(path: str | os.PathLike[str]) -> BinaryIO:
    """A regular file, open for reading; links are followed. Never waits, and opens no device that can be told before.

    Raises `OSError`, whose `strerror` says what the path is where it is something else.
    """
    try:
        _expect_regular(os.stat(path))
        descriptor = os.open(path, _FLAGS)
    except ValueError as error:  # a zero byte, or a character that no file name can hold
        raise OSError(errno.EINVAL, f"no file can have this name: {error}") from None
    try:
        _expect_regular(os.fstat(descriptor))  # again: the path may have come to mean something else
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def machine_memory() -> int | None:
    """Bytes of this machine's memory, where the platform tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _expect_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        number = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
        raise OSError(number, f"it is {kind}, expected a regular file")
