"""The formats that an export is written in: a writer for each, all of them from the same decided graphs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.export.emission.graph import Graph
from pixelsnail_infer.export.writing.onnx_files import OnnxFiles
from pixelsnail_infer.export.writing.torch_archive import TorchArchive
from pixelsnail_infer.manifest import Manifest, WaveSpec

__all__ = ["BOTH", "CHOICES", "DEFAULT_FORMAT", "FORMATS", "Files", "check_outputs", "names_of", "outputs_of"]


class Files(Protocol):
    """The files of one export while they are written, into a folder where nobody looks yet."""

    def add(self, part: str, graph: Graph) -> None:
        """Take a part: one of `manifest.PARTS`, and "step" as the last."""

    def filled(self, manifest: Manifest, wave: WaveSpec | None) -> Manifest:
        """The manifest with what was written, once all parts are there; `wave` describes those of waves."""
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

    def wrote(self, path: Path) -> bool:
        """Whether the file is one to load that an export in this format wrote."""
        ...


DEFAULT_FORMAT = "onnx"
FORMATS: Mapping[str, Format] = {DEFAULT_FORMAT: OnnxFiles, "torchscript": TorchArchive}
BOTH = "both"
CHOICES = (*FORMATS, BOTH)


def outputs_of(output: Path, name: str) -> dict[str, Path]:
    """The file to load of every format that `name` asks for, when an export is called `output`: for "both" they lie
    beside each other and differ in the ending, whichever of them is given. Raises `PixelsnailError`."""
    _check_name(str(output), name)
    return {one: output.with_suffix(FORMATS[one].suffix) for one in _asked(name)}


def check_outputs(output: Path, name: str) -> dict[str, Path]:
    """What `outputs_of` gives. Raises `PixelsnailError` where a file that was not named but lies beside, under the name
    that "both" gives, would be written over and no export wrote it."""
    outputs = outputs_of(output, name)
    for one, target in outputs.items():
        if target != output and target.is_file() and not FORMATS[one].wrote(target):
            raise PixelsnailError(f"--format {name} with {str(output)!r} would also write {str(target)!r}, which is "
                                  "there and is no export; name another file to write, or move that one away.")
    return outputs


def names_of(output: Path, name: str) -> list[Path]:
    """Every file that an export called `output` may have, those to load before their siblings."""
    return [path for one, target in outputs_of(output, name).items() for path in FORMATS[one].names(target)]


def _check_name(output: str, name: str) -> None:
    """Raise `PixelsnailError` unless the file's name ends as its format's do."""
    suffixes = [FORMATS[one].suffix for one in _asked(name)]
    if (found := Path(output).suffix) not in suffixes:
        other = [f"--format {one}" for one, made in FORMATS.items() if found == made.suffix]
        advice = f", or ask for {other[0]}" if other else ""
        raise PixelsnailError(f"the file to write is {output!r}; in the format {name} its name must end in "
                              f"{' or '.join(suffixes)}{advice}.")


def _asked(name: str) -> tuple[str, ...]:
    """The formats that the name asks for. Raises `PixelsnailError`."""
    if name not in CHOICES:
        *most, last = map(repr, CHOICES)
        raise PixelsnailError(f"format is {name!r}, expected {', '.join(most)} or {last}.")
    return tuple(FORMATS) if name == BOTH else (name,)
