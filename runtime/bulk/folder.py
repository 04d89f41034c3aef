"""The folder of a job: one process at a time writes there, and every shard in it is whole.

A shard is written under a temporary name, synced, and renamed; the new name ends in its sha256. So the rename alone
says that the shard is done and what it holds, and a process that dies at any moment leaves the folder right.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.plainfile import open_plain
from pixelsnail_infer.runtime.bulk.job import JOB_FILE, Job, expect_same, job_text, read_job
from pixelsnail_infer.runtime.bulk.shards import Shard, ShardName, named, shard_of, shards_in
from pixelsnail_infer.runtime.files.saving import write_whole

__all__ = ["BulkFolder", "open_folder", "shard_files"]

_CHUNK = 1 << 20
OnChecked = Callable[[int], object]


class BulkFolder:
    """An open folder. Made by `open_folder`; used by one thread."""

    def __init__(self, path: Path, job: Job, done: set[int]) -> None:
        self.path, self._job, self._done = path, job, done
        self._total = shards_in(job.n, job.shard)

    @property
    def images_done(self) -> int:
        """Images in the shards that are there."""
        return sum(shard_of(number, self._job.n, self._job.shard).count for number in self._done)

    @property
    def shards_done(self) -> tuple[int, int]:
        """How many shards are there, and of how many."""
        return len(self._done), self._total

    def missing(self) -> list[Shard]:
        """The shards that are not there yet, in order."""
        numbers = (number for number in range(self._total) if number not in self._done)
        return [shard_of(number, self._job.n, self._job.shard) for number in numbers]

    def keep(self, shard: Shard, data: bytes) -> None:
        """Write a shard whose file holds `data`: it is there, on the disk, when this returns. Raises `RequestError`,
        and leaves nothing behind, where that fails."""
        name = named(shard.number, self._total, data, self._job.format)
        write_whole(self.path / str(name), data)
        _sync(self.path)
        self._done.add(shard.number)


@contextmanager
def open_folder(path: Path, job: Job) -> Iterator[BulkFolder]:
    """The folder of `job`, made where there is none; nobody else can open it meanwhile.

    Temporary files that an interrupted process left are removed. Raises `RequestError` when the folder holds another
    job or other files, when a process writes there, and for a shard that is damaged.
    """
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise RequestError(f"{path} cannot be made a folder ({error.strerror}); give another one.") from error
    with _locked(path):
        _remove_stale(path)
        if (there := read_job(path)) is not None:
            expect_same(there, job, path)
        elif found := sorted(os.listdir(path)):
            what = f"{path} holds {one_line(found[0], 80)} and no {JOB_FILE}"
            raise RequestError(f"{what}; give a new or an empty folder.")
        else:
            write_whole(path / JOB_FILE, job_text(job).encode())
            _sync(path)
        files = shard_files(path, job)
        for name in files.values():
            _expect_whole(path / str(name), name)
        yield BulkFolder(path, job, set(files))


def shard_files(path: Path, job: Job) -> dict[int, ShardName]:
    """The shards in a folder by their numbers. Raises `RequestError` for two files of one shard, or of another job."""
    total, found = shards_in(job.n, job.shard), dict[int, ShardName]()
    for name in filter(None, map(ShardName.parse, sorted(os.listdir(path)))):
        if name.total != total or name.number >= total or name.format != job.format:
            raise RequestError(f"{path / str(name)} belongs to no job of {total} {job.format} files; move it away.")
        if (other := found.setdefault(name.number, name)) != name:
            raise RequestError(f"{path} holds two files of one shard, {other} and {name}; delete the wrong one.")
    return found


def _expect_whole(path: Path, name: ShardName) -> None:
    digest = hashlib.sha256()
    try:
        with open_plain(path) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror}); check the disk.") from error
    if not name.fits(digest):
        what = f"{path} is damaged: its sha256 begins with {digest.hexdigest()[:16]}, not as its name says"
        raise RequestError(f"{what}; delete it, and the same command draws it again.")


def _remove_stale(path: Path) -> None:
    """What `write_whole` leaves when the process dies."""
    for name in os.listdir(path):
        if name.startswith((f".{JOB_FILE}.", ".shard-")) and name.endswith(".part"):
            (path / name).unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the folder; the system lets go of it when the process ends, however it does."""
    try:
        import fcntl
    except ImportError:  # not on this platform
        yield
        return
    number = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RequestError(f"Another process writes to {path}; wait for it, or give another folder.") from error
        yield
    finally:
        os.close(number)


def _sync(path: Path) -> None:
    """Names that were given in a folder are on the disk."""
    if (flags := getattr(os, "O_DIRECTORY", None)) is None:  # not on this platform
        return
    try:
        number = os.open(path, os.O_RDONLY | flags)
        try:
            os.fsync(number)
        finally:
            os.close(number)
    except OSError as error:
        raise RequestError(f"{path} cannot be synced to the disk ({error.strerror}); check the disk.") from error
