"""The parts of an export, and where they lie: each in a file of its own, or all in one archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pixelsnail_infer.checks import MOST_BYTES, among, at_least, sha256

__all__ = ["DENOISER_PARTS", "PARTS", "PART_KEY", "SIBLINGS", "ArchiveSpec", "FileSpec", "sibling_path"]

PART_KEY = "pixelsnail_infer.part"
PARTS = ("row", "prologue", "score", "filtered")
SIBLINGS = (*PARTS, "wave", "ahead")
"""Every part that may lie in a file of its own."""
DENOISER_PARTS = ("times",)


def sibling_path(step_path: str | Path, part: str) -> Path:
    """Path of a part beside its step file: `a/b.onnx`, `row` → `a/b.row.onnx`. `part` is one of `SIBLINGS`, or a
    denoiser's."""
    among(part, (*SIBLINGS, *DENOISER_PARTS), "part of a model")
    path = Path(step_path)
    return path.with_name(f"{path.stem}.{part}.onnx")


@dataclass(frozen=True, slots=True)
class FileSpec:
    """One sibling file: the sha256 of its bytes (64 lower-case hex digits) and its size in bytes."""

    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        sha256(self.sha256, "files: sha256")
        at_least(self.bytes, 1, "files: bytes", MOST_BYTES)


@dataclass(frozen=True, slots=True)
class ArchiveSpec:
    """One file that holds all parts: its format, the parts beside the step, and the sha256 and bytes of what is in it.

    The digest is of every entry but the manifest itself, in the order of their names: name, size, bytes.
    """

    format: str
    parts: tuple[str, ...]
    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        among(self.format, ("torchscript",), "archive.format")
        for part in self.parts:
            among(part, (*PARTS, *DENOISER_PARTS), "archive.parts")
        sha256(self.sha256, "archive.sha256")
        at_least(self.bytes, 1, "archive.bytes", MOST_BYTES)
