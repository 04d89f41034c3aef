"""The files of a denoiser while they are written, in each format."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import onnx
from onnx import helper

from pixelsnail_infer.denoiser import TIMES, DenoiserManifest
from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.export.codecs.graph import written
from pixelsnail_infer.export.codecs.program import part_program
from pixelsnail_infer.export.denoisers.forms import graph_form
from pixelsnail_infer.export.denoisers.parts import STEP, part_of
from pixelsnail_infer.export.tracing.fresh import fresh_copy
from pixelsnail_infer.export.writing.onnx_writer import LIMIT
from pixelsnail_infer.export.writing.saving import save
from pixelsnail_infer.export.writing.torch_archive import archived, with_manifest
from pixelsnail_infer.manifest import METADATA_KEY, PART_KEY, FileSpec, sibling_path
from pixelsnail_infer.models.unet import UNet
from pixelsnail_infer.parts import ArchiveSpec
from pixelsnail_infer.runtime.files.archive import read_archive

__all__ = ["DENOISER_FORMATS", "DenoiserArchive", "DenoiserFormat", "DenoiserGraphs"]


class DenoiserFormat(Protocol):
    """Both parts, ready to be written; made of the network. `files` and `archive` are what the manifest says of them,
    and `versions` the packages that wrote them."""

    versions: tuple[str, ...]

    def __init__(self, module: UNet) -> None: ...

    @property
    def files(self) -> dict[str, FileSpec]: ...

    @property
    def archive(self) -> ArchiveSpec | None: ...

    def write(self, manifest: DenoiserManifest, path: Path) -> list[Path]:
        """Write what is loaded to `path`, and the rest beside it; may be called again with another manifest."""
        ...


class DenoiserGraphs:
    """Two ONNX graphs; the module is copied. Raises `ModelError`."""

    versions: tuple[str, ...] = ("torch", "onnx", "onnxscript")
    archive: ArchiveSpec | None = None

    def __init__(self, module: UNet) -> None:
        size = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
        if size > LIMIT:
            raise ModelError(f"the model has {size / 2**30:.1f} GiB of weights; a file holds at most 2 GiB.")
        form = graph_form(module)
        self._step, times = (written(part_of(form, name), name) for name in (STEP, TIMES))
        self._times = _with(times, PART_KEY, TIMES).SerializeToString()

    @property
    def files(self) -> dict[str, FileSpec]:
        """What the second file is, as the manifest says it."""
        return {TIMES: FileSpec(hashlib.sha256(self._times).hexdigest(), len(self._times))}

    def write(self, manifest: DenoiserManifest, path: Path) -> list[Path]:
        """Write both files, of which `path` is the step's; may be called again with another manifest."""
        files = [path, sibling_path(path, TIMES)]
        save(_with(self._step, METADATA_KEY, manifest.to_json()).SerializeToString(), files[0])
        save(self._times, files[1])
        return files


class DenoiserArchive:
    """One TorchScript archive of the network as it is; the module is copied. Raises `ModelError`."""

    versions: tuple[str, ...] = ("torch",)

    def __init__(self, module: UNet) -> None:
        copied = fresh_copy(module)
        assert isinstance(copied, UNet)
        programs = {name: part_program(part_of(copied, name), name) for name in (STEP, TIMES)}
        self._archive = archived(programs)
        found = read_archive(with_manifest(self._archive, ""))  # checked as it is when somebody loads it
        self.files: dict[str, FileSpec] = {}
        self.archive: ArchiveSpec | None = ArchiveSpec("torchscript", (TIMES,), found.sha256, found.held)

    def write(self, manifest: DenoiserManifest, path: Path) -> list[Path]:
        """Write the one file."""
        save(with_manifest(self._archive, manifest.to_json()), path)
        return [path]


DENOISER_FORMATS: Mapping[str, type[DenoiserFormat]] = {"onnx": DenoiserGraphs, "torchscript": DenoiserArchive}
"""By name."""


def _with(graph: onnx.ModelProto, key: str, text: str) -> onnx.ModelProto:
    """The graph itself, with this metadata and no other."""
    del graph.metadata_props[:]
    helper.set_model_props(graph, {key: text})
    return graph
