"""The graphs of one export, loaded into an engine."""

from __future__ import annotations

from typing import Protocol

from pixelsnail_infer.runtime.backends.plans import check_plan
from pixelsnail_infer.runtime.backends.protocol import Backend, Graph
from pixelsnail_infer.runtime.backends.signature import check_signature, signature
from pixelsnail_infer.runtime.files.model_files import ModelFiles


class Graphs(Protocol):
    """Loaded graphs by part; a part is loaded when it is first asked for."""

    def __call__(self, part: str) -> Graph: ...


class GraphSet:
    """Loaded graphs by part; a part is loaded and checked against the manifest when it is first asked for.

    Raises `BackendError` when the backend cannot run the plan that they were exported with.
    """

    def __init__(self, files: ModelFiles, backend: Backend) -> None:
        check_plan(files.manifest.plan, backend, files.open("step").name)
        self._files = files
        self._backend = backend
        self._loaded: dict[str, Graph] = {}

    def __call__(self, part: str) -> Graph:
        """The graph of `part`: "step" or one of `manifest.PARTS`."""
        if part not in self._loaded:
            file = self._files.open(part)
            graph = self._backend.load(file)
            check_signature(graph, signature(self._files.manifest, part), file.name)
            self._loaded[part] = graph
        return self._loaded[part]
