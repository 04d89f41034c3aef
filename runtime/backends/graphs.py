"""The graphs of one export, loaded into an engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from pixelsnail_infer.runtime.backends.plans import check_plan
from pixelsnail_infer.runtime.backends.protocol import Backend, Graph
from pixelsnail_infer.runtime.backends.signature import Signature, check_signature, check_tables, levels_of, signature
from pixelsnail_infer.runtime.files.graphfile import GraphFile
from pixelsnail_infer.runtime.files.model_files import ExportFiles


class Graphs(Protocol):
    """Loaded graphs by part; a part is loaded when it is first asked for."""

    def __call__(self, part: str) -> Graph: ...


def load_graph(backend: Backend, file: GraphFile, expected: Signature, levels: Mapping[str, int]) -> Graph:
    """The graph of a checked file, loaded, which has the expected tensors, and tables for all codes (see
    `check_tables`). Raises `GraphFileError`."""
    check_tables(file, levels)
    graph = backend.load(file)
    file.expect_unchanged()
    check_signature(graph, expected, file.name)
    return graph


class GraphSet:
    """Loaded graphs by part; a part is loaded and checked against the manifest when it is first asked for.

    Raises `BackendError` when the backend cannot run the plan that they were exported with.
    """

    def __init__(self, files: ExportFiles, backend: Backend) -> None:
        check_plan(files.manifest.plan, backend, files.open("step").name)
        self._files = files
        self._backend = backend
        self._loaded: dict[str, Graph] = {}

    def __call__(self, part: str) -> Graph:
        """The graph of `part`: "step" or one of `manifest.PARTS`."""
        if part not in self._loaded:
            manifest = self._files.manifest
            expected, levels = signature(manifest, part), levels_of(manifest)
            self._loaded[part] = load_graph(self._backend, self._files.open(part), expected, levels)
        return self._loaded[part]
