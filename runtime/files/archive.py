"""Reading one TorchScript archive and refusing what may not be loaded, before PyTorch sees it and without PyTorch.

An archive is a zip of programs and tensors. Refused: entries that are compressed, twice there, encrypted, or none that
the exporter writes; programs that could do more than compute (see `archive_code`); a manifest whose digest is not that
of the entries. The digest is in the archive itself, so it shows damage and mixed-up files, and not who wrote them:
whoever can write an archive can write its digest. The bounds of tensors are checked by PyTorch, which reads them.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pixelsnail_infer.errors import GraphFileError
from pixelsnail_infer.plainfile import open_plain
from pixelsnail_infer.runtime.files.archive_code import check_code
from pixelsnail_infer.runtime.files.graphfile import file_stamp

__all__ = ["MAGIC", "MANIFEST_ENTRY", "Archive", "is_archive", "read_archive"]

MAGIC = b"PK\x03\x04"
MANIFEST_ENTRY = "extra/pixelsnail_infer.manifest"
_PROGRAM = re.compile(r"code/__torch__/((?:\w+/)*\w+)\.py", re.ASCII)
_OTHER = re.compile(r"data/\d+|(data|constants)\.pkl|(\.data/)?version|byteorder|\.data/serialization_id", re.ASCII)
_NOT_DIGESTED = (MANIFEST_ENTRY, ".data/serialization_id")  # the second PyTorch makes of all entries
_NO_CONSTANTS = b"\x80\x02)."  # an empty tuple: tensors lie in the modules
_MOST_ENTRIES = 1 << 16
_MOST_TEXT = {"manifest": 1 << 24, "program": 1 << 26, "table of the modules": 1 << 26}
_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Archive:
    """A checked archive: its name in messages, where an engine may load it from, the text of its manifest, the digest
    and the number of bytes that the manifest's should be, and the file's size."""

    name: str
    source: Path | bytes
    manifest: str
    sha256: str
    held: int
    size: int
    stamp: tuple[int, ...] = field(default=(), repr=False)


def is_archive(source: str | Path | bytes) -> bool:
    """Whether a file, or these bytes, is a zip: what is no readable file is none."""
    if isinstance(source, (bytes, bytearray)):
        return bytes(source[:4]) == MAGIC
    try:
        with open_plain(source) as handle:
            return handle.read(4) == MAGIC
    except OSError:
        return False


def read_archive(source: str | Path | bytes) -> Archive:
    """Check the archive in a file or in bytes. Raises `GraphFileError` when it is missing, damaged or unsafe."""
    if isinstance(source, (bytes, bytearray)):
        return _read(io.BytesIO(source), "the archive", bytes(source), len(source), ())
    path = Path(source)
    try:
        with open_plain(path) as handle:
            status = os.fstat(handle.fileno())
            return _read(handle, str(path), path, status.st_size, file_stamp(status))
    except OSError as error:
        raise GraphFileError(f"{path} cannot be read ({error.strerror or error}); check the path.") from error


def _read(handle: BinaryIO, name: str, source: Path | bytes, size: int, stamp: tuple[int, ...]) -> Archive:
    try:
        with zipfile.ZipFile(handle) as opened:
            entries = _entries(opened, name, size)
            manifest = _text(opened, entries[MANIFEST_ENTRY], "manifest", name)
            _check_programs(opened, entries, name)
            return Archive(name, source, manifest, *_digest(opened, entries), size, stamp)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise GraphFileError(
            f"{name} is not a whole archive ({error}); it is truncated or damaged: copy or export it again."
        ) from error


def _entries(opened: zipfile.ZipFile, name: str, size: int) -> dict[str, zipfile.ZipInfo]:
    """Every entry by its name below the archive's one folder."""
    found: dict[str, zipfile.ZipInfo] = {}
    listed = opened.infolist()
    if len(listed) > _MOST_ENTRIES or opened.comment or sum(entry.file_size for entry in listed) > size:
        raise ValueError("it holds more than it can")
    if not any(entry.filename.partition("/")[2] == MANIFEST_ENTRY for entry in listed):
        raise GraphFileError(f"{name} has no manifest, so pixelsnail-infer did not write it; export a checkpoint.")
    folders = {entry.filename.split("/")[0] for entry in listed}
    for entry in listed:
        known = entry.filename.partition("/")[2]
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or entry.compress_size != entry.file_size:
            raise ValueError("an entry is compressed or encrypted")
        if known in found or len(folders) > 1:
            raise ValueError("an entry is there twice")
        if not (known == MANIFEST_ENTRY or _PROGRAM.fullmatch(known) or _OTHER.fullmatch(known)):
            raise GraphFileError(f"{name} holds {known[:80]!r}, which no export has; export the checkpoint again.")
        found[known] = entry
    return found


def _check_programs(opened: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], name: str) -> None:
    programs = {}
    for known, entry in entries.items():
        if place := _PROGRAM.fullmatch(known):
            programs[place[1].replace("/", ".")] = _text(opened, entry, "program", name)
    try:
        check_code(programs)
    except ValueError as error:
        raise GraphFileError(
            f"{name} holds a program that {error}, which no export does; it is refused: export the checkpoint again."
        ) from error
    if "constants.pkl" in entries and _bytes(opened, entries["constants.pkl"], "manifest") != _NO_CONSTANTS:
        raise GraphFileError(f"{name} holds constants outside of its modules, which no export has; export again.")


def _text(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, kind: str, name: str) -> str:
    try:
        return _bytes(opened, entry, kind).decode()
    except UnicodeDecodeError as error:
        raise GraphFileError(f"{name}: a {kind} is no text; it is damaged: copy or export it again.") from error


def _bytes(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, kind: str) -> bytes:
    if entry.file_size > _MOST_TEXT[kind]:
        raise ValueError(f"a {kind} has {entry.file_size} bytes")
    return opened.read(entry)


def _digest(opened: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]) -> tuple[str, int]:
    digest, held = hashlib.sha256(), 0
    for known in sorted(set(entries) - set(_NOT_DIGESTED)):
        digest.update(f"{known}\n{entries[known].file_size}\n".encode())
        held += entries[known].file_size
        for chunk in _chunks(opened, entries[known]):
            digest.update(chunk)
    return digest.hexdigest(), held


def _chunks(opened: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """The bytes of an entry; its checksum is compared at the end."""
    with opened.open(entry) as handle:
        while chunk := handle.read(_CHUNK):
            yield chunk
