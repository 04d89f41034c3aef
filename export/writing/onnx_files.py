"""An export as ONNX: a file for every part, the step's with the manifest."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from pixelsnail_infer.errors import GraphFileError
from pixelsnail_infer.export.emission.graph import Graph
from pixelsnail_infer.export.writing.onnx_writer import ModelProto, set_metadata, write_onnx
from pixelsnail_infer.export.writing.saving import save
from pixelsnail_infer.manifest import METADATA_KEY, PART_KEY, SIBLINGS, FileSpec, Manifest, WaveSpec, sibling_path
from pixelsnail_infer.runtime.files.graphfile import read_graph

__all__ = ["OnnxFiles"]


class OnnxFiles:
    """The step file at `path` and its siblings."""

    suffix = ".onnx"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._step: ModelProto | None = None
        self._files: dict[str, FileSpec] = {}

    @staticmethod
    def names(target: Path) -> list[Path]:
        """Every file that an export to `target` may have, the step first."""
        return [target, *(sibling_path(target, part) for part in SIBLINGS)]

    @staticmethod
    def wrote(path: Path) -> bool:
        """Whether the file is an exported step, or the one file of an exported decoder or encoder."""
        try:
            return METADATA_KEY in read_graph(path).metadata
        except GraphFileError:
            return False

    def add(self, part: str, graph: Graph) -> None:
        """Write a part, but for the step, which waits for the manifest."""
        if part == "step":
            self._step = write_onnx(graph, {})
            return
        data: Any = write_onnx(graph, {PART_KEY: part}).SerializeToString()
        save(data, sibling_path(self.path, part))
        self._files[part] = FileSpec(hashlib.sha256(data).hexdigest(), len(data))

    def filled(self, manifest: Manifest, wave: WaveSpec | None) -> Manifest:
        """The manifest with what was written."""
        return replace(manifest, files=dict(self._files), wave=wave)

    def describe(self, manifest: Manifest) -> None:
        """Write the step file with this manifest."""
        assert self._step is not None
        set_metadata(self._step, {METADATA_KEY: manifest.to_json()})
        data: Any = self._step.SerializeToString()
        save(data, self.path)
