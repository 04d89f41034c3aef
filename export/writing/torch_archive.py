"""All parts of an export as one TorchScript archive: weights that parts share are in it once, and the manifest."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, fx

from pixelsnail_infer.errors import GraphFileError
from pixelsnail_infer.export.emission.graph import Graph
from pixelsnail_infer.export.writing.saving import save
from pixelsnail_infer.export.writing.torch_writer import plain, torch_module
from pixelsnail_infer.manifest import ArchiveSpec, Manifest, WaveSpec
from pixelsnail_infer.runtime.files.archive import MANIFEST_ENTRY, read_archive

__all__ = ["TorchArchive", "archive_of", "archived", "with_manifest"]

VERSIONS = ("version", ".data/version")  # PyTorch writes one of them
SELF_MADE = ("version", ".data/")  # entries that PyTorch's writer adds itself
SOURCES = ".debug_pkl"  # where in the exporter each line was written: of no use elsewhere


class TorchArchive:
    """The one file at `path`."""

    suffix = ".pt"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._graphs: dict[str, Graph] = {}
        self._archive = b""

    @staticmethod
    def names(target: Path) -> list[Path]:
        """The file."""
        return [target]

    @staticmethod
    def wrote(path: Path) -> bool:
        """Whether the file is an archive that the runtime would read."""
        try:
            return bool(read_archive(path).manifest)
        except GraphFileError:
            return False

    def add(self, part: str, graph: Graph) -> None:
        """Keep a part until all are there."""
        self._graphs[part] = graph

    def filled(self, manifest: Manifest, wave: WaveSpec | None) -> Manifest:
        """The manifest with the digest of everything else. The archive is checked as it is when somebody loads it."""
        self._archive = archive_of(self._graphs)
        found = read_archive(with_manifest(self._archive, ""))
        parts = tuple(part for part in self._graphs if part != "step")
        versions = {name: version for name, version in manifest.versions.items() if name != "onnx"}
        spec = ArchiveSpec("torchscript", parts, found.sha256, found.held)
        return replace(manifest, files={}, archive=spec, versions=versions)

    def describe(self, manifest: Manifest) -> None:
        """Write the file with this manifest."""
        save(with_manifest(self._archive, manifest.to_json()), self.path)


def archive_of(graphs: Mapping[str, Graph]) -> bytes:
    """The archive of these parts, without a manifest: a script module whose submodules are the parts by name."""
    shared: dict[str, Tensor] = {}
    return archived({part: torch_module(graph, shared) for part, graph in graphs.items()})


def archived(modules: Mapping[str, fx.GraphModule]) -> bytes:
    """The archive of these modules, by the names of the parts that they are."""
    root = torch.nn.Module()
    for part, module in modules.items():
        root.add_module(part, plain(module))
    root.eval()
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(root), buffer)
    return buffer.getvalue()


def with_manifest(archive: bytes, manifest: str) -> bytes:
    """The archive again, with this manifest, and without the exporter's source lines."""
    reader, buffer = torch._C.PyTorchFileReader(io.BytesIO(archive)), io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    version = next(name for name in VERSIONS if name in reader.get_all_records())  # it says what the operators mean
    writer.set_min_version(int(reader.get_record(version)))
    for name in reader.get_all_records():
        if not name.startswith(SELF_MADE) and not name.endswith(SOURCES) and name != MANIFEST_ENTRY:
            held = reader.get_record(name)
            writer.write_record(name, held, len(held))
    held = manifest.encode()
    writer.write_record(MANIFEST_ENTRY, held, len(held))
    writer.write_end_of_file()
    return buffer.getvalue()
