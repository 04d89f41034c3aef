"""Writing result files: whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from pixelsnail_infer.errors import PixelsnailError, RequestError

__all__ = ["check_targets", "check_writable", "write_all", "write_whole"]


def write_whole(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` through a temporary file beside it; an old file is replaced only when all is on the disk.

    Raises `RequestError`, and leaves nothing behind, when the folder cannot be written or the disk is full.
    """
    target = _target(path)
    temporary = _temporary(target)
    try:
        with _create(temporary) as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise _refused(target, error) from error
    finally:
        _remove(temporary)


def write_all(files: Iterable[tuple[Path, bytes]], total: int, *, make_folders: bool = False) -> None:
    """`write_whole` for each of `total` files, made as they are asked for. An error or an interrupt in the middle says
    which files are there; each of them is whole."""
    written: list[Path] = []
    try:
        for path, data in files:
            if make_folders:
                _make_folder(path.parent)
            write_whole(path, data)
            written.append(path)
    except (PixelsnailError, MemoryError) as error:
        raise error if not written else RequestError(f"{error} Before that, {_said(written, total)}.") from error
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(*([_said(written, total)] if written else [])) from stop


def check_targets(
    paths: Sequence[Path], inputs: Iterable[str | Path | None] = (), *, make_folders: bool = False
) -> None:
    """Raise `RequestError` now, before a long computation, if `write_all` could not write one of `paths`, or if one of
    them is one of the files `inputs`. With `make_folders` a folder may be missing, if the one around it is there."""
    read = {key: path for path in inputs if path is not None and (key := _identity(path)) is not None}
    folders = set()
    for path in paths:
        if make_folders and not path.parent.exists():
            path = path.parent
        else:
            target = _target(path)
            if (key := _identity(target)) in read:
                raise RequestError(f"{path} is an input, too; give another file to write.")
        if path.parent not in folders:
            folders.add(path.parent)
            check_writable(path)


def check_writable(path: str | Path) -> None:
    """Raise `RequestError` now if `write_whole` could not even begin: before a long computation, not after it."""
    target = _target(path)
    temporary = _temporary(target)
    try:
        _create(temporary).close()
    except OSError as error:
        raise _refused(target, error) from error
    finally:
        _remove(temporary)


def _target(path: str | Path) -> Path:
    try:
        target = Path(os.path.realpath(path))  # a link stays a link; what it points to is replaced
        mode = _mode(target)
    except (OSError, ValueError) as error:  # too long, not to be looked at, or with a zero byte
        raise RequestError(f"{path} cannot be written ({_reason(error)}); give another name.") from error
    if mode is not None and not stat.S_ISREG(mode):
        raise RequestError(f"{path} is not a regular file; give the path of a file to write.")
    if not target.parent.is_dir():
        raise RequestError(f"{path} cannot be written: there is no folder {target.parent}; create it first.")
    return target


def _mode(path: Path) -> int | None:
    """What is there; None where nothing is."""
    try:
        return os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}.part")  # 40 characters: 160 bytes at most


def _create(path: Path) -> BinaryIO:
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb")


def _remove(temporary: Path) -> None:
    with suppress(OSError):  # as on a read-only disk, where even a file that is not there cannot be removed
        temporary.unlink()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise _refused(folder, error) from error


def _identity(path: str | Path) -> tuple[int, int] | None:
    """What a file is by whatever name; None where there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _said(written: Sequence[Path], total: int) -> str:
    return f"{len(written)} of {total} files were written, the last one {written[-1]}"


def _refused(target: Path, error: OSError) -> RequestError:
    return RequestError(f"{target} cannot be written ({_reason(error)}); free some space or choose another folder.")


def _reason(error: OSError | ValueError) -> str:
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
