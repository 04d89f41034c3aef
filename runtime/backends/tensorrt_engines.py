"""Built engines, kept beside the model or in a folder that `PIXELSNAIL_ENGINES` names.

A file is a line that says what it is, a line of JSON (the key that the engine was built under, and its sha256), and the
engine. To load an engine is like running a program, and whoever can alter a file can alter its sha256 too. So only a
plain file is read that nobody but its owner can write, and the owner must be this user, or root.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import BinaryIO

from pixelsnail_infer.errors import BackendError
from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.files.graphfile import GraphFile
from pixelsnail_infer.strictjson import decode, encode, parse_object

__all__ = ["FOLDER", "EngineKey", "Kept", "engine_path", "expect_writable", "keep_engine", "read_engine"]

FOLDER = "PIXELSNAIL_ENGINES"
_FIRST = b"pixelsnail-infer TensorRT engine, version 1\n"
_LONGEST = 1 << 16  # of the JSON line
_FLAGS = sum(getattr(os, name, 0) for name in ("O_RDONLY", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKey:
    """What an engine depends on. Another one is built where any of it differs."""

    onnx_sha256: str
    package: str
    version: str
    gpu: str
    """The GPU's name; empty with TensorRT for RTX, whose engines are for capabilities."""
    largest: int | None
    """The largest batch; None matches any."""
    flags: tuple[str, ...]
    system: str = f"{sys.platform} {platform.machine()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    key: EngineKey
    targets: tuple[str, ...]
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept: the engine, or why it has to be built; and for which capabilities and largest batch it was."""

    plan: bytes | None
    reason: str = ""
    targets: tuple[str, ...] = ()
    largest: int | None = None


def engine_path(file: GraphFile, key: EngineKey, folder: str | Path | None = None) -> Path:
    """Where the engine of a graph is kept: in `folder`, in the one that the environment names, or beside the graph.

    Raises `BackendError` for a graph that comes as bytes and has no place.
    """
    what = "-".join(filter(None, (key.package, "".join(c if c.isalnum() else "_" for c in key.gpu))))
    chosen = folder or os.environ.get(FOLDER)
    if chosen:  # where models of one name may meet
        stem = file.source.stem if isinstance(file.source, Path) else file.what.replace(" ", "_")
        return Path(chosen) / f"{stem}.{key.onnx_sha256[:12]}.{what}.engine"
    if not isinstance(file.source, Path):
        raise BackendError(f"{file.name} came as bytes, so its TensorRT engine has no place; set {FOLDER} to a folder.")
    return file.source.with_name(f"{file.source.stem}.{what}.engine")


def read_engine(path: Path, key: EngineKey, target: str) -> Kept:
    """The engine at `path`, if it is there, was built under this key, and for the capability `target`.

    Raises `BackendError` for one that may not be trusted, or is damaged.
    """
    try:
        data = _read_trusted(path)
    except FileNotFoundError:
        return Kept(None, "there is none yet")
    header, plan = _parsed(path, data)
    largest = header.key.largest
    if reason := _difference(header.key, key):
        return Kept(None, reason, largest=largest)
    if target not in header.targets:
        reason = f"it was built for SM {', '.join(header.targets)}, this is SM {target}"
        return Kept(None, reason, header.targets, largest)
    return Kept(plan, "", header.targets, largest)


def keep_engine(path: Path, key: EngineKey, targets: tuple[str, ...], plan: bytes) -> None:
    """Write an engine, whole or not at all; whatever has the name is replaced. Raises `BackendError`."""
    header = _Header(key=key, targets=targets, sha256=hashlib.sha256(plan).hexdigest(), bytes=len(plan))
    parts = (_FIRST, json.dumps(encode(header)).encode() + b"\n", plan)
    with _replacing(path) as handle:
        for part in parts:
            handle.write(part)
        handle.flush()
        os.fsync(handle.fileno())


def expect_writable(path: Path) -> None:
    """Raise `BackendError` now if `keep_engine` could not even begin: before a long build, not after it."""
    with suppress(_Enough), _replacing(path):
        raise _Enough


class _Enough(Exception):
    """Ends the writing of a file that need not be there."""


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A temporary file beside `path`, which takes its place when all is written. Nobody but this user can write it."""
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with open(os.open(temporary, flags, 0o644), "wb") as handle:
            yield handle
        os.replace(temporary, path)
    except OSError as error:
        raise BackendError(
            f"The TensorRT engine {path} cannot be written ({error.strerror or error}); free some space, or set "
            f"{FOLDER} to a folder of your own."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _read_trusted(path: Path) -> bytes:
    """The bytes of a plain file of this user's, or root's, which nobody else can write."""
    if os.path.islink(path):  # where the system has no O_NOFOLLOW
        raise _untrusted(path, "is a link")
    try:
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = "is a link" if error.errno == errno.ELOOP else f"cannot be read ({error.strerror or error})"
        raise _untrusted(path, reason) from error
    try:
        _expect_own(path, os.fstat(descriptor))
        with open(descriptor, "rb", closefd=False) as handle:
            return handle.read()
    finally:
        os.close(descriptor)


def _expect_own(path: Path, status: os.stat_result) -> None:
    """Raise unless it is a regular file whose bytes are this user's, or root's; where the system has users."""
    if not stat.S_ISREG(status.st_mode):
        raise _untrusted(path, "is no regular file")
    if not hasattr(os, "geteuid"):
        return
    if status.st_uid not in (os.geteuid(), 0):
        raise _untrusted(path, f"belongs to another user (number {status.st_uid})")
    if status.st_mode & 0o022:
        raise _untrusted(path, f"can be written by others (mode {stat.S_IMODE(status.st_mode):o})")


def _parsed(path: Path, data: bytes) -> tuple[_Header, bytes]:
    if not data.startswith(_FIRST):
        raise _untrusted(path, "is no engine of this program, or of another version")
    end = data.find(b"\n", len(_FIRST), len(_FIRST) + _LONGEST)
    if end < 0:
        raise _untrusted(path, "ends before its engine")
    try:
        document = parse_object(data[len(_FIRST) : end].decode(), "header", ValueError)
        header = decode(_Header, document, "header", ValueError, "build it again")
    except ValueError as error:
        raise _untrusted(path, f"is damaged ({error})") from error
    plan = data[end + 1 :]
    if len(plan) != header.bytes:
        raise _untrusted(path, f"has an engine of {len(plan)} bytes, expected {header.bytes}: it is half-written")
    if hashlib.sha256(plan).hexdigest() != header.sha256:
        raise _untrusted(path, "was altered: its engine has another sha256 than it says")
    return header, plan


def _difference(kept: EngineKey, key: EngineKey) -> str:
    """What of the key differs, in words; empty where nothing does."""
    words = {"onnx_sha256": "the model", "package": "TensorRT", "version": "the version of TensorRT", "gpu": "the GPU",
             "largest": "the largest batch", "flags": "how it is built", "system": "the system"}  # fmt: skip
    for field in fields(EngineKey):
        old, new = getattr(kept, field.name), getattr(key, field.name)
        if old != new and new is not None:
            short = field.name == "onnx_sha256"
            old, new = (f"{old[:12]}…", f"{new[:12]}…") if short else (shown(old), shown(new))
            return f"{words[field.name]} is another: it was {old}, now {new}"
    return ""


def _untrusted(path: Path, reason: str) -> BackendError:
    return BackendError(
        f"The TensorRT engine {path} {reason}, so it is not loaded; delete it, or build it again with "
        "'pixelsnail-infer build'."
    )
