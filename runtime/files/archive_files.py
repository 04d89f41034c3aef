"""What lies in one archive: the parts of a prior, a decoder or an encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pixelsnail_infer.document import kind_of
from pixelsnail_infer.errors import GraphFileError
from pixelsnail_infer.manifest import METADATA_KEY
from pixelsnail_infer.runtime.files.archive import is_archive, read_archive
from pixelsnail_infer.runtime.files.graphfile import GraphFile, read_graph
from pixelsnail_infer.runtime.files.model_files import expect_described, expect_kind, read_manifest

__all__ = ["ArchiveFiles", "is_archive", "kind_of_file", "read_file"]


class ArchiveFiles:
    """A prior's archive, checked when it is opened, and whole: its entries have the digest that the manifest gives.

    Raises `GraphFileError` and `ManifestError`.
    """

    def __init__(self, source: str | Path | bytes) -> None:
        self._step = replace(_read(source), part="step", what="step graph")
        self.manifest = read_manifest(self._step)
        expect_described(self._step, self.manifest.archive)

    @property
    def name(self) -> str:
        """What messages call the export: its path, or "the archive"."""
        return self._step.name

    def open(self, part: str) -> GraphFile:
        """A part. Raises `GraphFileError` when this export has none of the name."""
        if part not in ("step", *self.manifest.parts):
            raise GraphFileError(f"This export has no {part} graph, which the call needs; export the checkpoint again.")
        return replace(self._step, part=part, what=f"{part} graph")


def read_file(source: str | Path | bytes, what: str) -> GraphFile:
    """A checked graph file, or an archive whose part is called `what`. Raises `GraphFileError`."""
    return replace(_read(source), part=what, what=what) if is_archive(source) else read_graph(source, what)


def kind_of_file(source: str | Path | bytes, kinds: tuple[str, ...], what: str = "graph") -> str | None:
    """Which of these `kinds`, of `LOADERS`, an export is; messages call bytes `what`. Raises `GraphFileError`,
    `ManifestError`."""
    file = read_file(source, what)
    expect_kind(file, kinds)
    return kind_of(file.metadata[METADATA_KEY])


def _read(source: str | Path | bytes) -> GraphFile:
    """As a graph file whose metadata is the manifest. The engine itself bounds what indexes a table."""
    held = read_archive(source)
    metadata = {METADATA_KEY: held.manifest}
    return GraphFile(held.name, "graph", held.source, metadata, {}, held.size, held.sha256, held.stamp)
