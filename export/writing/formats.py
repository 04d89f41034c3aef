"""The formats that an export is written in: a writer for each, all of them from the same decided graphs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.export.emission.graph import Graph
from pixelsnail_infer.export.writing.onnx_files import OnnxFiles
from pixelsnail_infer.export.writing.torch_archive import TorchArchive
from pixelsnail_infer.manifest import Manifest

__all__ = ["DEFAULT_FORMAT", "FORMATS", "Files", "check_name", "format_of"]


class Files(Protocol):
    """The files of one export while they are written, into a folder where nobody looks yet."""

    def add(self, part: str, graph: Graph) -> None:
        """Take a part: one of `manifest.PARTS`, and "step" as the last."""

    def filled(self, manifest: Manifest) -> Manifest:
        """The manifest with what was written, once all parts are there."""
        ...

    def describe(self, manifest: Manifest) -> None:
        """Write the file that is loaded, with this manifest; may be called again with another."""


class Format(Protocol):
    """Makes the files of one format."""

    suffix: str

    def __call__(self, path: Path) -> Files: ...

    def names(self, target: Path) -> list[Path]:
        """Every file that an export to `target` may have, the one to load first."""
        ...


DEFAULT_FORMAT = "onnx"
FORMATS: Mapping[str, Format] = {DEFAULT_FORMAT: OnnxFiles, "torchscript": TorchArchive}


def format_of(name: str) -> Format:
    """The format of this name. Raises `PixelsnailError`."""
    if name not in FORMATS:
        raise PixelsnailError(f"format is {name!r}, expected {' or '.join(map(repr, FORMATS))}.")
    return FORMATS[name]


def check_name(output: str, name: str) -> None:
    """Raise `PixelsnailError` unless the file's name ends as its format's do."""
    if (found := Path(output).suffix) != (suffix := format_of(name).suffix):
        other = [f"--format {one}" for one, made in FORMATS.items() if found == made.suffix]
        advice = f", or ask for {other[0]}" if other else ""
        raise PixelsnailError(f"the file to write is {output!r}; in the format {name} its name must end in {suffix}"
                              f"{advice}.")
