"""The two ONNX files of a denoiser while they are written."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
from onnx import helper

from pixelsnail_infer.denoiser import TIMES, DenoiserManifest
from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.export.codecs.graph import written
from pixelsnail_infer.export.denoisers.forms import graph_form
from pixelsnail_infer.export.denoisers.parts import STEP, part_of
from pixelsnail_infer.export.writing.onnx_writer import LIMIT
from pixelsnail_infer.export.writing.saving import save
from pixelsnail_infer.manifest import METADATA_KEY, PART_KEY, FileSpec, sibling_path
from pixelsnail_infer.models.unet import UNet

__all__ = ["DenoiserGraphs"]


class DenoiserGraphs:
    """The graphs of both parts; the module is copied. Raises `ModelError`."""

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


def _with(graph: onnx.ModelProto, key: str, text: str) -> onnx.ModelProto:
    """The graph itself, with this metadata and no other."""
    del graph.metadata_props[:]
    helper.set_model_props(graph, {key: text})
    return graph
