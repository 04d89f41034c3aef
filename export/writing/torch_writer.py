"""A decided graph as a PyTorch module: an fx graph of ATen calls, which runs eagerly, compiles, and becomes TorchScript."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from pixelsnail_infer.export.emission.graph import Graph
from pixelsnail_infer.export.writing.torch_spelling import SPELLINGS, Calls

__all__ = ["torch_module"]


def torch_module(graph: Graph) -> fx.GraphModule:
    """The module of one part. It takes the graph's inputs in order and gives its outputs as a tuple, dtypes and shapes as
    in the contract; states are written in place, and the results of writes are the states themselves. Constants are
    buffers, so that `to` moves them."""
    body = fx.Graph()
    w = Calls(graph, body)
    for entry in graph.inputs:
        w.nodes[entry.value] = body.placeholder(entry.value.name.replace(".", "_"))
    for step in graph.steps:
        spelled = SPELLINGS[type(step.operation)](w, step.operation)
        w.nodes.update(zip(step.results, [spelled] if isinstance(spelled, fx.Node) else spelled, strict=True))
    body.output(tuple(w[output.value] for output in graph.outputs))
    root = torch.nn.Module()
    for name, array in w.constants.items():
        root.register_buffer(name, torch.from_numpy(array.copy()))
    module = fx.GraphModule(root, body, graph.name)
    module.eval()
    return module


def input_names(graph: Graph) -> list[str]:
    """The contract's names of the module's arguments, in order."""
    return [entry.value.name for entry in graph.inputs]


def example(graph: Graph, slots: int) -> dict[str, Any]:
    """Zeros of the graph's inputs."""
    kinds = {"float": getattr(torch, graph.precision), "int": torch.int64, "bool": torch.bool}
    return {entry.value.name: torch.zeros([slots if size == "B" else int(size) for size in entry.shape],
                                          dtype=kinds[entry.value.kind]) for entry in graph.inputs}
