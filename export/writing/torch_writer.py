"""A decided graph as a PyTorch module: an fx graph of ATen calls, which runs at once, and becomes TorchScript."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from pixelsnail_infer.export.emission.graph import Graph, Kind, Shape
from pixelsnail_infer.export.emission.vocabulary import Constant, Put, Write
from pixelsnail_infer.export.writing.torch_spelling import OWN, SPELLINGS, Calls
from pixelsnail_infer.export.writing.torch_stacks import stacked

__all__ = ["TOLD", "plain", "torch_module"]

TOLD = ("inputs", "outputs", "dtypes", "shapes")


def torch_module(graph: Graph, shared: MutableMapping[str, Tensor]) -> fx.GraphModule:
    """The module of one part. It takes the graph's inputs in order and gives its outputs as a tuple, dtypes and shapes
    as in the contract, each contiguous; states are written in place, and the results of writes are the states
    themselves.

    Constants are buffers, so that `to` moves them; those that `shared` has by their digest are taken from it, and the
    others are put there. Attributes tell the tensors to whom has only the module: `inputs` and `outputs` name them in
    order; `dtypes` and `shapes` hold NumPy's name and the sizes of each, -1 for the slots.
    """
    body = fx.Graph()
    w, spellings = Calls(graph, body), SPELLINGS | OWN
    for entry in graph.inputs:
        w.nodes[entry.value] = body.placeholder(entry.value.name.replace(".", "_"))
    for step in stacked(graph).steps:
        if isinstance(step.operation, Constant):
            continue  # spelled by those that use it, as they want it
        spelled = spellings[type(step.operation)](w, step.operation)
        w.nodes.update(zip(step.results, [spelled] if isinstance(spelled, fx.Node) else spelled, strict=True))
    written = {result for step in graph.steps if isinstance(step.operation, (Put, Write)) for result in step.results}
    body.output(tuple(w[output.value] if output.value in written else w.method("contiguous", w[output.value])
                      for output in graph.outputs))
    body.eliminate_dead_code(is_impure_node=_writes)
    root = torch.nn.Module()
    for digest, name in w.names.items():
        if digest not in shared:
            shared[digest] = _tensor(w.constants[name])
        root.register_buffer(name, shared[digest])
    module = fx.GraphModule(root, body, graph.name)
    _describe(module, graph)
    module.eval()
    return module


def plain(module: fx.GraphModule) -> torch.nn.Module:
    """The module without what fx keeps for itself, all of which TorchScript would write into the file."""
    bare: torch.nn.Module = type(type(module).__name__, (torch.nn.Module,), {"forward": type(module).forward})()
    for name, tensor in module.named_buffers():
        bare.register_buffer(name, tensor)
    for name in TOLD:
        setattr(bare, name, getattr(module, name))
    return bare.eval()


def _writes(node: fx.Node) -> bool:
    return node.op in ("placeholder", "output") or getattr(node.target, "__name__", "") in ("put", "write")


def _describe(module: fx.GraphModule, graph: Graph) -> None:
    """The attributes that tell the tensors."""
    inputs = [(entry.value.name, entry.value.kind, entry.shape) for entry in graph.inputs]
    outputs = [(entry.name, entry.value.kind, entry.shape) for entry in graph.outputs]
    both = (*inputs, *outputs)
    told: tuple[Any, ...] = (
        [name for name, _, _ in inputs], [name for name, _, _ in outputs],
        {name: _dtype(graph, kind) for name, kind, _ in both}, {name: _sizes(shape) for name, _, shape in both})
    for name, value in zip(TOLD, told, strict=True):
        setattr(module, name, value)


def _dtype(graph: Graph, kind: Kind) -> str:
    return {"float": graph.precision, "wide": "float32", "int": "int64", "bool": "bool"}[kind]


def _tensor(array: NDArray[Any]) -> Tensor:
    """A tensor of its own with these numbers; NumPy and PyTorch share no bfloat16, only its bits."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def _sizes(shape: Shape) -> list[int]:
    return [size if isinstance(size, int) else -1 for size in shape]
