"""The one file of a decoder or an encoder while it is written, in each format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch
from onnx import helper

from pixelsnail_infer.codec import CodecManifest
from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.export.codecs.graph import build_graph, weights
from pixelsnail_infer.export.codecs.program import program_of
from pixelsnail_infer.export.writing.saving import save
from pixelsnail_infer.export.writing.torch_archive import archived, with_manifest
from pixelsnail_infer.manifest import METADATA_KEY
from pixelsnail_infer.parts import ArchiveSpec
from pixelsnail_infer.runtime.files.archive import read_archive

__all__ = ["HALF_FILES", "HalfFile"]


class HalfFile(Protocol):
    """A half that is ready to be written; made of a first stage and the kind, "decoder" or "encoder"."""

    def __init__(self, module: torch.nn.Module, kind: str) -> None: ...

    def filled(self, manifest: CodecManifest) -> CodecManifest:
        """The manifest with what the file holds."""
        ...

    def describe(self, manifest: CodecManifest, path: Path) -> None:
        """Write the file with this manifest; may be called again with another."""


class OnnxHalf:
    """One ONNX graph."""

    def __init__(self, module: torch.nn.Module, kind: str) -> None:
        self._graph = build_graph(module, kind)

    def filled(self, manifest: CodecManifest) -> CodecManifest:
        """The manifest with the number of weights."""
        return replace(manifest, parameters=weights(self._graph))

    def describe(self, manifest: CodecManifest, path: Path) -> None:
        """Write the file."""
        del self._graph.metadata_props[:]
        helper.set_model_props(self._graph, {METADATA_KEY: manifest.to_json()})
        save(self._graph.SerializeToString(), path)


class ArchivedHalf:
    """A TorchScript archive of one module, which has the name of its kind."""

    def __init__(self, module: torch.nn.Module, kind: str) -> None:
        program = program_of(module, kind)
        self._weights = sum(tensor.numel() for tensor in program.buffers() if tensor.is_floating_point())
        try:
            self._archive = archived({kind: program})
        except RuntimeError as error:  # TorchScript's own
            reason = str(error).partition("\n")[0]
            raise ModelError(f"this {kind} cannot become TorchScript ({reason}); write it as onnx.") from error
        self._found = read_archive(with_manifest(self._archive, ""))  # checked as it is when somebody loads it

    def filled(self, manifest: CodecManifest) -> CodecManifest:
        """The manifest with the number of weights and the digest of everything else."""
        versions = {name: version for name, version in manifest.versions.items() if not name.startswith("onnx")}
        spec = ArchiveSpec("torchscript", (), self._found.sha256, self._found.held)
        return replace(manifest, parameters=self._weights, archive=spec, versions=versions)

    def describe(self, manifest: CodecManifest, path: Path) -> None:
        """Write the file."""
        save(with_manifest(self._archive, manifest.to_json()), path)


HALF_FILES: Mapping[str, type[HalfFile]] = {"onnx": OnnxHalf, "torchscript": ArchivedHalf}
"""By format."""
