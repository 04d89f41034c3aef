"""Writing result files: whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import BinaryIO

from pixelsnail_infer.errors import RequestError


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
        temporary.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Raise `RequestError` now if `write_whole` could not even begin: before a long computation, not after it."""
    target = _target(path)
    temporary = _temporary(target)
    try:
        _create(temporary).close()
    except OSError as error:
        raise _refused(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _target(path: str | Path) -> Path:
    target = Path(os.path.realpath(path))  # a link stays a link; what it points to is replaced
    if target.exists() and not target.is_file():
        raise RequestError(f"{path} is not a regular file; give the path of a file to write.")
    if not target.parent.is_dir():
        raise RequestError(f"{path} cannot be written: there is no folder {target.parent}; create it first.")
    return target


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name[:80]}.{secrets.token_hex(4)}.part")


def _create(path: Path) -> BinaryIO:
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb")


def _refused(target: Path, error: OSError) -> RequestError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return RequestError(f"{target} cannot be written ({reason}); free some space or choose another folder.")
