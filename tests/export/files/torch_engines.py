"""The graphs as the PyTorch writer makes them, run by the driver: at once, or from an archive of their own."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch

from pixelsnail_infer.export.emission.builder import HALVES
from pixelsnail_infer.export.emission.graph import Graph
from pixelsnail_infer.export.writing.torch_archive import archive_of, with_manifest
from pixelsnail_infer.export.writing.torch_writer import torch_module
from pixelsnail_infer.runtime.backends.torch_cpu import nodes, plainly
from pixelsnail_infer.runtime.files.archive import read_archive
from pixelsnail_infer.runtime.files.archive_code import KINDS

from .drive import Arrays


class Fx:
    """The module as it is, run by Python."""

    def __init__(self, graph: Graph) -> None:
        self.module = torch_module(graph, {})
        self.inputs = tuple(entry.value.name for entry in graph.inputs)
        self.outputs = [output.name for output in graph.outputs]

    def run(self, feeds: Arrays) -> Arrays:
        """All outputs by name; a written state lies in the memory of its input."""
        with torch.inference_mode(), plainly():
            results = self.module(*(tensor_of(feeds[name]) for name in self.inputs))
        return {name: array_of(tensor) for name, tensor in zip(self.outputs, results, strict=True)}


def tensor_of(array: Any) -> torch.Tensor:
    """A tensor over the array's memory; of bfloat16 too."""
    half = array.dtype == HALVES["bfloat16"]
    return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16) if half else torch.from_numpy(array)


def array_of(tensor: torch.Tensor) -> Any:
    """The other way round."""
    half = tensor.dtype == torch.bfloat16
    return tensor.view(torch.int16).numpy().view(HALVES["bfloat16"]) if half else tensor.numpy()


class Scripted(Fx):
    """The module from an archive, which the runtime would take."""

    def __init__(self, graph: Graph) -> None:
        data = with_manifest(archive_of({graph.name: graph}), "{}")
        read_archive(data)
        self.module = getattr(torch.jit.load(io.BytesIO(data)), graph.name)
        assert {node.kind() for node in nodes(self.module.inlined_graph)} <= KINDS
        self.inputs, self.outputs = tuple(self.module.inputs), self.module.outputs
        assert self.inputs == tuple(entry.value.name for entry in graph.inputs)
        assert self.outputs == [output.name for output in graph.outputs]
