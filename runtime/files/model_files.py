"""The files of one export: found, checked and read, each when it is first needed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from pixelsnail_infer.document import kind_of
from pixelsnail_infer.errors import GraphFileError, ManifestError
from pixelsnail_infer.manifest import METADATA_KEY, PART_KEY, SIBLINGS, ArchiveSpec, Manifest, sibling_path
from pixelsnail_infer.runtime.files.graphfile import GraphFile, read_graph

LOADERS = {"prior": "load", "decoder": "load_decoder", "encoder": "load_encoder", "denoiser": "load"}


class ExportFiles(Protocol):
    """What an export is loaded from: files of its own for every part, or one archive of all."""

    @property
    def name(self) -> str:
        """What messages call the export."""
        ...

    @property
    def manifest(self) -> Manifest: ...

    def open(self, part: str) -> GraphFile:
        """A checked part. Raises `GraphFileError`."""
        ...


class ModelFiles:
    """The files of one export: the step file with the manifest, and its siblings, checked when opened."""

    def __init__(self, source: str | Path | bytes, siblings: Mapping[str, bytes] | None = None) -> None:
        if not isinstance(source, (str, Path, bytes, bytearray)):
            raise GraphFileError(f"path_or_bytes is a {type(source).__name__}, expected a path or the file's bytes.")
        in_memory = isinstance(source, (bytes, bytearray))
        if in_memory != (siblings is not None):
            advice = "give siblings={'row': …} too" if in_memory else "siblings go with bytes, not with a path"
            raise GraphFileError(f"The step graph comes as {'bytes' if in_memory else 'a path'}; {advice}.")
        if unknown := [part for part in siblings or () if part not in SIBLINGS]:
            raise GraphFileError(f"siblings has the key {unknown[0]!r}, expected only {', '.join(SIBLINGS)}.")
        self._source = source
        self._siblings = siblings
        self._step: GraphFile = read_graph(source, "step graph")
        self.manifest = read_manifest(self._step)
        expect_described(self._step, self.manifest.archive)

    @property
    def name(self) -> str:
        """What messages call the export: its path, or "the step graph"."""
        return self._step.name

    def has(self, part: str) -> bool:
        """Whether the export has this part."""
        return part == "step" or part in self.manifest.parts

    def open(self, part: str) -> GraphFile:
        """Read and check a part. Raises `GraphFileError` when it is missing, altered, damaged or of another part."""
        if part == "step":
            return self._step
        if not self.has(part):
            raise GraphFileError(f"This export has no {part} graph, which the call needs; export the checkpoint again.")
        file = self._read(part)
        if file.sha256 != self.manifest.files[part].sha256:
            raise GraphFileError(
                f"{file.name} is not the file that the manifest names (sha256 {str(file.sha256)[:12]}…, expected "
                f"{self.manifest.files[part].sha256[:12]}…); copy all files of one export together, or export again."
            )
        if file.metadata.get(PART_KEY) != part:
            found = file.metadata.get(PART_KEY)
            raise GraphFileError(f"{file.name} says it is {found!r}, expected {part!r}; export the checkpoint again.")
        return file

    def _read(self, part: str) -> GraphFile:
        if isinstance(self._source, (str, Path)):
            return read_graph(sibling_path(self._source, part), f"{part} graph", digest=True)
        if self._siblings is None or part not in self._siblings:
            raise GraphFileError(f"siblings lacks {part!r}, which this model needs; give the bytes of that file.")
        return read_graph(self._siblings[part], f"{part} graph", digest=True)


def expect_kind(file: GraphFile, kinds: tuple[str, ...]) -> None:
    """Raise `ManifestError` unless the file has a manifest, and one of these kinds, of `LOADERS`."""
    if (text := file.metadata.get(METADATA_KEY)) is None:
        if (part := file.metadata.get(PART_KEY)) is not None:
            raise ManifestError(f"{file.name} is the {part} part of an export; give the file without '.{part}'.")
        raise ManifestError(f"{file.name} has no manifest, so pixelsnail-infer did not write it; export a checkpoint.")
    try:
        found = kind_of(text)
    except ManifestError as error:
        raise ManifestError(f"{file.name}: {error}") from error
    if found in LOADERS and found not in kinds:
        article = "an" if found == "encoder" else "a"
        raise ManifestError(f"{file.name} is {article} {found}, not {_either(kinds)}; use {LOADERS[found]} for it.")


def expect_described(file: GraphFile, spec: ArchiveSpec | None) -> None:
    """Raise `GraphFileError` unless an archive is what its manifest says in `spec`, or a graph file's says nothing."""
    if (spec is None) != (file.part is None) or (spec is not None and spec.sha256 != file.sha256):
        kind, found = ("file", "") if file.part is None else ("archive", f" (sha256 {str(file.sha256)[:12]}…)")
        raise GraphFileError(
            f"{file.name} is not the {kind} that its manifest describes{found}; it was altered or damaged: copy it "
            "again, or export the checkpoint again."
        )


def _either(kinds: tuple[str, ...]) -> str:
    return " or ".join(f"an {kind}" if kind == "encoder" else f"a {kind}" for kind in kinds)


def read_manifest(file: GraphFile) -> Manifest:
    """The manifest of a prior. Raises `ManifestError`."""
    expect_kind(file, ("prior",))
    try:
        return Manifest.from_json(file.metadata[METADATA_KEY])
    except ManifestError as error:
        raise ManifestError(f"{file.name}: {error}") from error
