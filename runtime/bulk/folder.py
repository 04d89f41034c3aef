"""The folder of a job: one process at a time writes there, and every shard in it is whole.

A shard is written under a temporary name, synced, and renamed; the new name ends in its sha256. So the rename alone
says that the shard is done and what it holds, and a process that dies at any moment leaves the folder right.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.runtime.bulk.job import JOB_FILE, Job, expect_same, job_text, read_job
from pixelsnail_infer.runtime.bulk.shard_file import ShardFile
from pixelsnail_infer.runtime.bulk.shards import Shard, ShardName, named, shard_of, shards_in
from pixelsnail_infer.runtime.files.saving import check_writable, write_whole

__all__ = ["BulkFolder", "FolderChanged", "open_folder", "shard_files"]

# What `write_whole` leaves of a file's name, cut to 40 characters, when the process dies.
_STALE = re.compile(r"\.(job\.json|shard-[0-9]{5,7}-of-[0-9]{5,7}\.[0-9a-f]{16}(\.[a-z]*)?)\.[0-9a-f]{8}\.part")
OnChecked = Callable[[int, int], object]
"""Told how many shards are checked, and of how many."""


class FolderChanged(RequestError):
    """Somebody else moved, emptied or changed the folder while it was open."""


class BulkFolder:
    """An open folder. Made by `open_folder`; used by one thread."""

    def __init__(self, path: Path, job: Job, files: dict[int, ShardName], own: os.stat_result) -> None:
        self.path, self._job, self._files, self._own = path, job, files, own
        self._total = shards_in(job.n, job.shard)

    @property
    def images_done(self) -> int:
        """Images in the shards that are there."""
        return sum(shard_of(number, self._job.n, self._job.shard).count for number in self._files)

    @property
    def shards_done(self) -> tuple[int, int]:
        """How many shards are there, and of how many."""
        return len(self._files), self._total

    def missing(self) -> list[Shard]:
        """The shards that are not there yet, in order."""
        numbers = (number for number in range(self._total) if number not in self._files)
        return [shard_of(number, self._job.n, self._job.shard) for number in numbers]

    def keep(self, shard: Shard, data: bytes) -> None:
        """Write a shard whose file holds `data`: it is there, on the disk, when this returns. Raises `RequestError`,
        and leaves nothing behind, where that fails; `FolderChanged` where the path leads to another folder now."""
        self._expect_own()
        name = named(shard.number, self._total, data, self._job.format)
        write_whole(self.path / str(name), data)
        _sync(self.path)
        self._files[shard.number] = name

    def expect_complete(self) -> None:
        """Raise `FolderChanged` unless every shard is in the folder now, as it was checked or written."""
        self._expect_own()
        if (there := read_job(self.path)) is not None:
            expect_same(there, self._job, self.path)
        if there is None or shard_files(self.path, self._job) != self._files or self.missing():
            what = f"{self.path} does not hold what was written there: somebody else changed files in it"
            raise FolderChanged(f"{what}; the same command says what is wrong, or draws what is missing.")

    def _expect_own(self) -> None:
        """The lock is on the folder itself, and files are written by its path: others may move or empty it."""
        with suppress(OSError):
            if os.path.samestat(self._own, os.stat(self.path)):
                if (self.path / JOB_FILE).is_file():
                    return
                what = f"{self.path} has lost its {JOB_FILE} while it was filled"
                raise FolderChanged(f"{what}; give a new folder, or bring the file back and run the same command.")
        what = f"{self.path} is no longer the folder that was opened: somebody moved or deleted it"
        raise FolderChanged(f"{what}; move it back if it is elsewhere, and run the same command.")


@contextmanager
def open_folder(path: Path, job: Job, on_checked: OnChecked | None = None) -> Iterator[BulkFolder]:
    """The folder of `job`, made where there is none; nobody else can open it meanwhile.

    Every shard in it is read and checked; `on_checked` is called after each. Temporary files that an interrupted
    process left are removed. Raises `RequestError` when the folder holds another job or other files, when a process
    writes there, and when it lacks shards and cannot be written; `GraphFileError` for a shard that is damaged.
    """
    _make(path)
    with _locked(path) as own:
        if (there := read_job(path)) is not None:
            expect_same(there, job, path)
        elif found := [name for name in sorted(os.listdir(path)) if not _STALE.fullmatch(name)]:
            what = f"{path} holds {one_line(found[0], 80)} and no {JOB_FILE}"
            raise RequestError(f"{what}; give a new or an empty folder.")
        else:
            write_whole(path / JOB_FILE, job_text(job).encode())
            _sync(path)
            _sync(path.parent)  # in which the folder may be new
        _remove_stale(path)
        files = shard_files(path, job)
        folder = BulkFolder(path, job, files, own)
        if folder.missing():
            check_writable(path / JOB_FILE)  # now, not when the first shard is drawn
        for done, (_, name) in enumerate(sorted(files.items()), 1):
            ShardFile(path, name, job).check()
            if on_checked is not None:
                on_checked(done, len(files))
        yield folder


def shard_files(path: Path, job: Job) -> dict[int, ShardName]:
    """The shards in a folder by their numbers. Raises `RequestError` for two files of one shard, or of another job."""
    total, found = shards_in(job.n, job.shard), dict[int, ShardName]()
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    for name in filter(None, map(ShardName.parse, names)):
        if name.total != total or name.number >= total or name.format != job.format:
            raise RequestError(f"{path / str(name)} belongs to no job of {total} {job.format} files; move it away.")
        if (other := found.setdefault(name.number, name)) != name:
            raise RequestError(f"{path} holds two files of one shard, {other} and {name}; delete the wrong one.")
    return found


def _make(path: Path) -> None:
    try:
        path.mkdir(exist_ok=True)
    except (OSError, ValueError) as error:  # also a zero byte
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"{path} cannot be made a folder ({reason}); give another one.") from error


def _remove_stale(path: Path) -> None:
    for name in filter(_STALE.fullmatch, os.listdir(path)):
        with suppress(OSError):  # what cannot be removed does no harm
            os.unlink(path / name)


@contextmanager
def _locked(path: Path) -> Iterator[os.stat_result]:
    """Hold the folder, and tell which it is; the system lets go of it when the process ends, however it does."""
    try:
        import fcntl
    except ImportError:  # not on this platform
        yield os.stat(path)
        return
    try:
        number = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise RequestError(f"{path} cannot be opened ({error.strerror}); check its permissions.") from error
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RequestError(f"Another process writes to {path}; wait for it, or give another folder.") from error
        except OSError as error:
            raise RequestError(f"{path} cannot be locked ({error.strerror}); give one on another disk.") from error
        yield os.fstat(number)
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
    except PermissionError:  # of a folder around this one, which may be closed to us
        return
    except OSError as error:
        raise RequestError(f"{path} cannot be synced to the disk ({error.strerror}); check the disk.") from error
