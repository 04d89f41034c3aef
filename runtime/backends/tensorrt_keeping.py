"""Building an engine and keeping it, with what was learnt about the speed of kernels for the next build."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pixelsnail_infer.errors import GraphFileError
from pixelsnail_infer.plainfile import open_plain
from pixelsnail_infer.runtime.backends.tensorrt_builder import (
    LARGEST,
    LARGEST_WHOLE,
    Built,
    build_engine,
    build_flags,
)
from pixelsnail_infer.runtime.backends.tensorrt_engines import (
    EngineKey,
    engine_path,
    expect_writable,
    keep_engine,
    read_engine,
)
from pixelsnail_infer.runtime.backends.tensorrt_package import Package
from pixelsnail_infer.runtime.files.graphfile import GraphFile

__all__ = ["EnginePlace", "build_and_keep", "engine_place"]

_WHOLE = ("score graph", "decoder", "encoder")


@dataclass(frozen=True, slots=True)
class EnginePlace:
    """A graph's bytes, the key of its engine, and where the engine is kept."""

    file: GraphFile
    model: bytes
    key: EngineKey
    path: Path


def engine_place(
    package: Package, file: GraphFile, gpu: str, largest: int | None, folder: str | Path | None = None
) -> EnginePlace:
    """Where the engine of a checked graph belongs; `gpu` is the GPU's name, which does not matter to TensorRT for RTX.

    Raises `GraphFileError` when the file is not the one that was checked.
    """
    if file.part is not None:
        raise GraphFileError(f"{file.name} is a TorchScript archive, and TensorRT runs ONNX files; export one.")
    model = _bytes_of(file)
    file.expect_unchanged()
    key = EngineKey(
        onnx_sha256=hashlib.sha256(model).hexdigest(), package=package.name, version=package.version,
        gpu="" if package.rtx else gpu, largest=largest, flags=build_flags(package),
    )  # fmt: skip
    return EnginePlace(file, model, key, engine_path(file, key, folder))


def build_and_keep(
    package: Package, place: EnginePlace, targets: Sequence[str], largest: int | None, threads: int | None = None
) -> Built:
    """Build the engine for the compute capabilities `targets`, or the one GPU at hand, and write it to its place.
    `largest` is the largest batch; None is what such a graph is used for.

    Raises `GraphFileError` when TensorRT refuses the graph, `BackendError` when the engine cannot be written.
    """
    expect_writable(place.path)
    largest = largest or (LARGEST_WHOLE if place.file.what in _WHOLE else LARGEST)
    key, here = replace(place.key, largest=largest), targets[0]
    # What is known of the kernels' speed holds for every model and batch, on this GPU with this version.
    known, beside = replace(key, onnx_sha256="", largest=0), place.path.with_name(_timing_name(place.path))
    timing = b"" if package.rtx else read_engine(beside, known, here).plan or b""
    name = f"{place.file.name}, the {place.file.what}"
    built = build_engine(package, place.model, name, targets, largest, timing, threads)
    keep_engine(place.path, key, tuple(targets), built.plan)
    if built.timing:
        keep_engine(beside, known, (here,), built.timing)
    return built


def _timing_name(path: Path) -> str:
    return f"{path.name.split('.')[-2]}.timing"


def _bytes_of(file: GraphFile) -> bytes:
    if isinstance(file.source, bytes):
        return file.source
    try:
        with open_plain(file.source) as handle:
            return handle.read()
    except OSError as error:
        raise GraphFileError(f"{file.name} cannot be read ({error.strerror or error}); load it again.") from error
