"""From a path or bytes to a `Sampler`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pixelsnail_infer.runtime.backends import open_backend
from pixelsnail_infer.runtime.backends.graphs import GraphSet
from pixelsnail_infer.runtime.drawing.batch import buffer_bytes
from pixelsnail_infer.runtime.drawing.sampler import Sampler
from pixelsnail_infer.runtime.drawing.states import state_bytes
from pixelsnail_infer.runtime.files.model_files import ModelFiles
from pixelsnail_infer.runtime.requests.memory import expect_room


def load(
    path_or_bytes: str | Path | bytes,
    *,
    siblings: Mapping[str, bytes] | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> Sampler:
    """Load an exported model and return its `Sampler`.

    `path_or_bytes` is the step file (`out.onnx`); its siblings lie beside it under their names. With bytes, `siblings`
    maps "row", "prologue", "score" and "filtered" to theirs. Siblings must have the sha256 that the manifest gives; the
    score and filtered graphs are read when first needed, so their files must stay until then.

    `device` is "cpu" or "cuda"; another device than the one asked for is never used. `threads` is the number of threads
    that one run of a graph uses (None: every core this process may use); it never changes a global setting. Any thread
    may call the sampler; calls on one sampler wait for each other.

    Raises `GraphFileError` (missing, altered, damaged or unsafe file), `ManifestError` or `BackendError`.
    """
    files = ModelFiles(path_or_bytes, siblings)
    manifest = files.manifest
    backend = open_backend(device, threads)
    graphs = GraphSet(files, backend)
    expect_room(state_bytes(manifest, 1) + buffer_bytes(manifest, 1), files.name)
    for part in ("step", "row", *(("prologue",) if manifest.conditions else ())):
        graphs(part)
    return Sampler(manifest, backend, graphs)
