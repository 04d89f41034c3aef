"""Decoders and encoders of exported first stages: from codes to images and back. NumPy and one engine; never torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixelsnail_infer.codec import CODEC_KINDS, IMAGE, CodecManifest
from pixelsnail_infer.errors import GraphFileError, ManifestError, RequestError
from pixelsnail_infer.manifest import METADATA_KEY
from pixelsnail_infer.runtime.backends import Backend, BoundGraph, Buffer, Graph, choose_backend, open_backend
from pixelsnail_infer.runtime.backends.graphs import load_graph
from pixelsnail_infer.runtime.backends.plans import check_plan
from pixelsnail_infer.runtime.backends.signature import Signature, Tensors, tensor_bytes
from pixelsnail_infer.runtime.codecs.inputs import check_codes, check_image
from pixelsnail_infer.runtime.files.archive_files import read_file
from pixelsnail_infer.runtime.files.graphfile import GraphFile
from pixelsnail_infer.runtime.files.model_files import expect_described, expect_kind
from pixelsnail_infer.runtime.requests.guard import CallGuard
from pixelsnail_infer.runtime.requests.memory import check_fits, check_images_fit, expect_room, memory_told
from pixelsnail_infer.runtime.requests.request import count

__all__ = ["Decoder", "Encoder", "load_decoder", "load_encoder", "read_codec"]

CODEC_BATCH = 4
"""Images that are coded at once by default: a codec holds whole images in all their channels, and on a CPU larger
batches gain nothing."""

Progress = Callable[[int, int], object]
Self = TypeVar("Self", bound="Codec")


class Codec:
    """What decoders and encoders share: the loaded graph, and its buffers for the last batch size.

    Any thread may call; calls on one object wait for each other. Returned arrays belong to the caller. Every call
    raises `EngineError` when the engine fails or memory runs out; the next one works again.
    """

    def __init__(self, manifest: CodecManifest, backend: Backend, graph: Graph) -> None:
        self._manifest = manifest
        self._backend = backend
        self._graph: Graph | None = graph
        self._calls = CallGuard(manifest.kind, "call it when the call has returned")
        self._batch: tuple[int, dict[str, Buffer], BoundGraph] | None = None

    @property
    def manifest(self) -> CodecManifest:
        """The frozen description of the file."""
        return self._manifest

    @property
    def result_bytes(self) -> int:
        """Bytes of the result for one image."""
        return tensor_bytes(codec_signature(self._manifest).outputs.values())

    def close(self) -> None:
        """Release graph and buffers, after waiting for a call in progress; may be called again. Later calls raise."""
        if self._calls.closed:
            return
        with self._calls:
            self._calls.closed = True
            self._batch = self._graph = None

    def __enter__(self: Self) -> Self:
        self._calls.check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(
        self, inputs: dict[str, NDArray[Any]], max_batch: int | None, progress: Progress | None
    ) -> dict[str, NDArray[Any]]:
        """Checked inputs [n, …] through the graph, at most `max_batch` at once; outputs [n, …] by name."""
        limit = CODEC_BATCH if max_batch is None else count(max_batch, "max_batch")
        total = len(next(iter(inputs.values())))
        shapes = codec_signature(self._manifest).outputs
        check_images_fit(total, self.result_bytes)
        results = {name: np.empty((total, *shape), dtype) for name, (dtype, shape) in shapes.items()}
        with self._calls:
            for first in range(0, total, limit):
                some = slice(first, min(first + limit, total))
                buffers, bound = self._bound(some.stop - first)
                for name, array in inputs.items():
                    buffers[name].array[...] = array[some]
                    buffers[name].push()
                bound.run()
                for name, result in results.items():
                    buffers[name].pull()
                    result[some] = buffers[name].array
                if progress is not None:
                    progress(some.stop, total)
        return results

    def _bound(self, size: int) -> tuple[dict[str, Buffer], BoundGraph]:
        if self._graph is None:
            raise RequestError(f"This {self._manifest.kind} is closed; load the model again.")
        if self._batch is None or self._batch[0] != size:
            self._batch = None  # release the old buffers before the new ones are allocated
            shapes = codec_signature(self._manifest)
            tensors = shapes.inputs | shapes.outputs
            need = size * tensor_bytes(tensors.values())
            check_fits(need, f"A batch of {size} images that are coded", "give a smaller max_batch")
            buffers = {name: self._backend.allocate((size, *dims), dtype) for name, (dtype, dims) in tensors.items()}
            inputs = {name: buffers[name] for name in shapes.inputs}
            bound = self._graph.bind(inputs, {name: buffers[name] for name in shapes.outputs})
            self._batch = size, buffers, bound
        return self._batch[1:]


class Decoder(Codec):
    """A loaded decoder, made by `load_decoder`: codes of every level to images."""

    @memory_told
    def decode(
        self, *codes: ArrayLike, max_batch: int | None = None, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Images float32 [n, H, W, C] of codes int [n, h, w], one array per level in the manifest's order.

        The numbers are what the network gives: pixels lie about in [-1, 1] and are not clipped (`to_uint8` does). Codes
        [h, w] count as one image's. At most `max_batch` images (default 4) are decoded at once; more are split in
        order. `progress(done, total)` counts images; it runs in the calling thread and must not call this decoder.

        Raises `RequestError` before anything runs when an argument is wrong.
        """
        arrays = check_codes(self._manifest, codes)
        inputs: dict[str, NDArray[Any]] = {
            spec.name: array for spec, array in zip(self._manifest.codes, arrays, strict=True)
        }
        return self._run(inputs, max_batch, progress)[IMAGE]


    def blank(self, n: int) -> NDArray[np.float32]:
        """What `decode` has for n images before anything is decoded: NaN."""
        spec = self._manifest.image
        return np.full((n, *spec.shape, spec.channels), np.nan, np.float32)


class Encoder(Codec):
    """A loaded encoder, made by `load_encoder`: images to codes of every level."""

    @memory_told
    def encode(
        self, images: ArrayLike, *, max_batch: int | None = None, progress: Progress | None = None
    ) -> tuple[NDArray[np.int64], ...]:
        """Codes int64 [n, h, w], one array per level in the manifest's order, of images float [n, H, W, C].

        Pixels must lie in [-1, 1]; `from_uint8` makes them of grey levels. An image [H, W, C] counts as one. The rest
        is as for `Decoder.decode`.
        """
        checked = check_image(self._manifest.image, images)
        results = self._run({IMAGE: checked}, max_batch, progress)
        return tuple(results[spec.name] for spec in self._manifest.codes)


def load_decoder(
    path_or_bytes: str | Path | bytes, *, device: str = "cpu", backend: str = "auto", threads: int | None = None
) -> Decoder:
    """Load an exported decoder, from an ONNX file or an archive. `device`, `backend` and `threads` are as for `load`.

    Raises `GraphFileError` (missing, damaged or unsafe file), `ManifestError` (not a decoder) or `BackendError`.
    """
    return Decoder(*_open(path_or_bytes, "decoder", device, backend, threads))


def load_encoder(
    path_or_bytes: str | Path | bytes, *, device: str = "cpu", backend: str = "auto", threads: int | None = None
) -> Encoder:
    """Load an exported encoder. The arguments are those of `load_decoder`, and it raises what that does."""
    return Encoder(*_open(path_or_bytes, "encoder", device, backend, threads))


def read_codec(source: str | Path | bytes, kinds: tuple[str, ...] = CODEC_KINDS) -> tuple[GraphFile, CodecManifest]:
    """Read and check a codec's file and its manifest, which must be of one of `kinds`. Loads no engine."""
    if not isinstance(source, (str, Path, bytes, bytearray)):
        raise GraphFileError(f"path_or_bytes is a {type(source).__name__}, expected a path or the file's bytes.")
    file = read_file(source, kinds[0])
    expect_kind(file, kinds)
    try:
        manifest = CodecManifest.from_json(file.metadata[METADATA_KEY])
    except ManifestError as error:
        raise ManifestError(f"{file.name}: {error}") from error
    expect_described(file, manifest.archive)
    return file if file.part is None else replace(file, part=manifest.kind, what=manifest.kind), manifest


def codec_signature(manifest: CodecManifest) -> Signature:
    """What the graph of a decoder or an encoder takes and gives."""
    spec = manifest.image
    image: Tensors = {IMAGE: ("float32", (*spec.shape, spec.channels))}
    codes: Tensors = {level.name: ("int64", level.shape) for level in manifest.codes}
    return Signature(codes, image) if manifest.kind == "decoder" else Signature(image, codes)


def _open(
    source: str | Path | bytes, kind: str, device: str, backend: str, threads: int | None
) -> tuple[CodecManifest, Backend, Graph]:
    file, manifest = read_codec(source, (kind,))
    expected = codec_signature(manifest)
    expect_room(tensor_bytes((*expected.inputs.values(), *expected.outputs.values())), file.name)
    levels = {spec.name: spec.levels for spec in manifest.codes}
    engine = open_backend(device, threads, choose_backend(backend, file.format, file.name))
    check_plan(manifest.plan, engine, file.name)
    return manifest, engine, load_graph(engine, file, expected, levels)
