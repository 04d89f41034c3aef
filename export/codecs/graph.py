"""One graph of a decoder or an encoder, by PyTorch's own ONNX exporter, reduced to what the contract has."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import torch
from onnx import TensorProto, helper

from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.export.codecs.parts import Half, half_of
from pixelsnail_infer.export.tracing.fresh import fresh_copy
from pixelsnail_infer.export.writing.onnx_writer import IR_VERSION, LIMIT, OPSET

__all__ = ["build_graph", "groupwise", "quiet", "weights", "written"]


class GroupwiseNorm(torch.nn.Module):
    """A group norm as the instance norm of its groups, then scale and shift: what ONNX Runtime has a kernel for. Its
    GroupNormalization is expanded, takes twice the time and rounds six times as much."""

    def __init__(self, norm: torch.nn.GroupNorm) -> None:
        super().__init__()
        self.groups, self.eps = norm.num_groups, norm.eps
        affine = norm.weight is not None and norm.bias is not None
        self.scale = torch.nn.Buffer(norm.weight.detach()[:, None, None]) if affine else None
        self.shift = torch.nn.Buffer(norm.bias.detach()[:, None, None]) if affine else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, C, h, w]` to the same."""
        batch, channels, height, width = x.shape
        groups = x.reshape(batch, self.groups, channels // self.groups * height * width)
        normed = torch.nn.functional.instance_norm(groups, eps=self.eps).reshape(batch, channels, height, width)
        return normed if self.scale is None or self.shift is None else normed * self.scale + self.shift


def build_graph(module: torch.nn.Module, kind: str) -> onnx.ModelProto:
    """The graph of a first stage's "decoder" or "encoder", with weights inside and a free batch; no metadata yet.

    The module is copied. Raises `ModelError` when PyTorch cannot export it, or its weights fit no single file.
    """
    half = half_of(groupwise(fresh_copy(module)), kind)  # type: ignore[arg-type]
    size = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    if size > LIMIT:
        raise ModelError(f"the model has {size / 2**30:.1f} GiB of weights; a file holds at most 2 GiB.")
    return written(half, kind)


def groupwise(module: torch.nn.Module) -> torch.nn.Module:
    """The module itself, whose group norms are replaced by `GroupwiseNorm`."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, torch.nn.GroupNorm):
                setattr(parent, name, GroupwiseNorm(child))
    return module


def written(half: Half, kind: str) -> onnx.ModelProto:
    """The graph of a part, which is called `kind` there and in messages. Raises `ModelError`."""
    with quiet():
        try:
            program = torch.onnx.export(
                half.part, half.args, dynamo=True, dynamic_shapes=half.free, input_names=list(half.inputs),
                output_names=list(half.outputs), opset_version=OPSET, verbose=False)
        except Exception as error:  # its own classes, and whatever a translation raises
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(f"PyTorch's ONNX exporter cannot write this {kind} ({reason}).") from error
    assert program is not None  # for mypy: it is None with dynamo=False only
    return _plain(program.model_proto, kind)


def weights(model: onnx.ModelProto) -> int:
    """How many floating-point numbers the graph holds."""
    return sum(math.prod(t.dims) for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and t.dims)


def _plain(model: onnx.ModelProto, kind: str) -> onnx.ModelProto:
    """Without the notes on every node, which name files of this machine, and with the contract's header."""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]
    graph = helper.make_graph(model.graph.node, kind, model.graph.input, model.graph.output, model.graph.initializer)
    plain = helper.make_model(graph, opset_imports=model.opset_import, functions=model.functions,
                              producer_name="pixelsnail-infer")
    plain.ir_version = IR_VERSION
    if plain.ByteSize() < 2**26:
        onnx.checker.check_model(plain, full_check=True)
    return plain


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's remarks about packages that are not installed and its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
