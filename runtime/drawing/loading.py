"""From a path or bytes to a `Sampler`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pixelsnail_infer.errors import GraphFileError
from pixelsnail_infer.runtime.backends import Backend, choose_backend, open_backend
from pixelsnail_infer.runtime.backends.graphs import GraphSet
from pixelsnail_infer.runtime.drawing.batch import buffer_bytes
from pixelsnail_infer.runtime.drawing.sampler import Sampler
from pixelsnail_infer.runtime.drawing.states import state_bytes
from pixelsnail_infer.runtime.files.archive_files import ArchiveFiles, is_archive
from pixelsnail_infer.runtime.files.model_files import ExportFiles, ModelFiles
from pixelsnail_infer.runtime.requests.memory import expect_room


def load(
    path_or_bytes: str | Path | bytes,
    *,
    siblings: Mapping[str, bytes] | None = None,
    device: str = "cpu",
    backend: str = "auto",
    threads: int | None = None,
    schedule: str = "auto",
) -> Sampler:
    """Load an exported prior. The arguments are those of `pixelsnail_infer.runtime.load`, which takes denoisers, too.

    Raises `GraphFileError` (missing, altered, damaged or unsafe file), `ManifestError` or `BackendError`.
    """
    files, engine, graphs = opened(path_or_bytes, siblings=siblings, device=device, backend=backend, threads=threads)
    return Sampler(files.manifest, engine, graphs, schedule)


def opened(
    path_or_bytes: str | Path | bytes,
    *,
    siblings: Mapping[str, bytes] | None,
    device: str,
    backend: str,
    threads: int | None,
) -> tuple[ExportFiles, Backend, GraphSet]:
    """What `load` makes a `Sampler` of: the files, the engine, and the graphs that every draw takes, loaded into it."""
    files = _files(path_or_bytes, siblings)
    manifest = files.manifest
    engine = open_backend(device, threads, choose_backend(backend, files.open("step").format, files.name))
    graphs = GraphSet(files, engine)
    expect_room(state_bytes(manifest, 1) + buffer_bytes(manifest, 1), files.name)
    for part in ("step", "row", *(("prologue",) if manifest.conditions else ())):
        graphs(part)
    return files, engine, graphs


def _files(source: str | Path | bytes, siblings: Mapping[str, bytes] | None) -> ExportFiles:
    if not (isinstance(source, (str, Path, bytes, bytearray)) and is_archive(source)):
        return ModelFiles(source, siblings)
    if siblings is not None:
        raise GraphFileError("siblings were given with an archive, which holds all parts; leave them out.")
    return ArchiveFiles(source)
