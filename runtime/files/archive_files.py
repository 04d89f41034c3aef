"""The parts of one export that lie in one archive."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pixelsnail_infer.errors import GraphFileError
from pixelsnail_infer.manifest import METADATA_KEY
from pixelsnail_infer.runtime.files.archive import Archive, is_archive, read_archive
from pixelsnail_infer.runtime.files.graphfile import GraphFile
from pixelsnail_infer.runtime.files.model_files import read_manifest

__all__ = ["ArchiveFiles", "is_archive"]


class ArchiveFiles:
    """An archive, checked when it is opened, and whole: its entries have the digest that the manifest gives.

    Raises `GraphFileError` and `ManifestError`.
    """

    def __init__(self, source: str | Path | bytes) -> None:
        held = read_archive(source)
        self._step = _file(held)
        self.manifest = read_manifest(self._step)
        if self.manifest.archive is None or self.manifest.archive.sha256 != held.sha256:
            raise GraphFileError(
                f"{held.name} is not the archive that its manifest describes (sha256 {held.sha256[:12]}…); it was "
                "altered or damaged: copy it again, or export the checkpoint again."
            )

    @property
    def name(self) -> str:
        """What messages call the export: its path, or "the archive"."""
        return self._step.name

    def open(self, part: str) -> GraphFile:
        """A part. Raises `GraphFileError` when this export has none of the name."""
        if part not in ("step", *self.manifest.parts):
            raise GraphFileError(f"This export has no {part} graph, which the call needs; export the checkpoint again.")
        return replace(self._step, part=part, what=f"{part} graph")


def _file(held: Archive) -> GraphFile:
    """As a graph file whose metadata is the manifest. The engine itself bounds what indexes a table."""
    metadata = {METADATA_KEY: held.manifest}
    return GraphFile(held.name, "step graph", held.source, metadata, {}, held.size, held.sha256, held.stamp, "step")
