"""A decided graph as an ONNX model: the standard `ai.onnx` domain, opset 24, no external data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx
from onnx import ModelProto, NodeProto, ValueInfoProto, helper

from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.export.emission.graph import Graph, Kind, Shape, Step
from pixelsnail_infer.export.emission.regions import Work, in_blocks
from pixelsnail_infer.export.writing.onnx_nodes import Nodes
from pixelsnail_infer.export.writing.onnx_regions import branches, write_region
from pixelsnail_infer.export.writing.onnx_spelling import SPELLINGS

__all__ = ["IR_VERSION", "LIMIT", "OPSET", "ModelProto", "set_metadata", "write_onnx"]

OPSET = 24
IR_VERSION = 11
LIMIT = 2**31 - 2**20  # protobuf refuses larger messages
CHECKED = 2**26  # bytes of weights: larger models are not run through ONNX's checker, which copies them


def write_onnx(graph: Graph, metadata: Mapping[str, str]) -> ModelProto:
    """The checked model, with metadata. Raises `ModelError` where it would not fit into one file."""
    w = Nodes(graph)
    home = {result: step.region for step in graph.steps for result in step.results}
    for block in in_blocks(graph):
        if isinstance(block, Work):
            write_region(w, block, home, _write)
        else:
            _write(w, block)
    final = {w[output.value]: output.name for output in graph.outputs}
    assert len(final) == len(graph.outputs)
    _name_outputs(w.nodes, final)
    size = sum(len(tensor.raw_data) for tensor in w.initializers)
    if size > LIMIT:
        raise ModelError(f"the {graph.name} graph has {size / 2**30:.1f} GiB of weights; a file holds at most 2 GiB.")
    inputs = [_described(w, entry.value.name, entry.value.kind, entry.shape) for entry in graph.inputs]
    outputs = [_described(w, entry.name, entry.value.kind, entry.shape) for entry in graph.outputs]
    body = helper.make_graph(w.nodes, graph.name, inputs, outputs, w.initializers)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="pixelsnail-infer")
    model.ir_version = IR_VERSION
    set_metadata(model, metadata)
    if size < CHECKED:
        onnx.checker.check_model(model, full_check=True)
    return model


def set_metadata(model: ModelProto, metadata: Mapping[str, str]) -> None:
    """Give a model this metadata and no other."""
    del model.metadata_props[:]
    helper.set_model_props(model, dict(metadata))


def _write(w: Nodes, step: Step) -> None:
    w.module = step.module
    spelled = SPELLINGS[type(step.operation)](w, step.operation)
    w.names.update(zip(step.results, [spelled] if isinstance(spelled, str) else spelled, strict=True))


def _name_outputs(nodes: Iterable[NodeProto], final: Mapping[str, str]) -> None:
    """Values that are outputs take their names."""
    for node in nodes:
        node.input[:] = [final.get(name, name) for name in node.input]
        node.output[:] = [final.get(name, name) for name in node.output]
        for branch in branches(node):
            _name_outputs(branch.node, final)


def _described(w: Nodes, name: str, kind: Kind, shape: Shape) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, w.type_of(kind), list(shape))
