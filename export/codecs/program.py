"""A decoder, an encoder or a part of a denoiser as a flat PyTorch module, as `torch.export` sees it: what TorchScript
takes."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx
from torch.export.graph_signature import InputKind

from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.export.codecs.graph import quiet
from pixelsnail_infer.export.codecs.parts import Half, half_of
from pixelsnail_infer.export.tracing.fresh import fresh_copy
from pixelsnail_infer.export.writing.torch_writer import TOLD
from pixelsnail_infer.runtime.files.archive_code import CODEC_OPERATORS, DENOISER_OPERATORS, OPERATORS

__all__ = ["part_program", "program_of"]

aten: Any = torch.ops.aten
WRITTEN = OPERATORS | CODEC_OPERATORS | DENOISER_OPERATORS
NUMBERS = (operator.add, operator.sub, operator.mul, operator.floordiv, operator.getitem)  # of sizes, and of lists


def program_of(module: torch.nn.Module, kind: str) -> fx.GraphModule:
    """The "decoder" or "encoder" of a first stage, whose batch is free. It takes and gives the tensors of the contract
    in order, and tells them as the parts of a prior do (see `torch_writer`).

    The module is copied. Raises `ModelError` when PyTorch cannot follow it, or it does what TorchScript cannot say.
    """
    return part_program(half_of(fresh_copy(module), kind), kind)  # type: ignore[arg-type]


def part_program(half: Half, kind: str) -> fx.GraphModule:
    """The same of a part that messages call `kind`. Raises `ModelError`."""
    with quiet():
        try:
            program = torch.export.export(half.part, half.args, dynamic_shapes=half.free).run_decompositions({})
        except Exception as error:  # its own classes, and whatever the module raises
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(f"PyTorch cannot export this {kind} ({reason}).") from error
    return _spelled(program, half, kind)


def _spelled(program: torch.export.ExportedProgram, half: Half, kind: str) -> fx.GraphModule:
    """The program's graph again, in calls that TorchScript has, with its weights as buffers."""
    body, root, nodes = fx.Graph(), torch.nn.Module(), dict[fx.Node, fx.Node]()
    given, names = {**program.state_dict, **program.constants}, iter(half.inputs)
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    for node in program.graph.nodes:
        if node.op == "placeholder" and specs[node.name].kind == InputKind.USER_INPUT:
            nodes[node] = body.placeholder(next(names))
        elif node.op == "placeholder" and node.users:
            name = f"c{len(dict(root.named_buffers()))}"
            root.register_buffer(name, given[str(specs[node.name].target)].detach().clone())
            nodes[node] = body.get_attr(name)
        elif node.op == "call_function" and not _only_checks(node):
            args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), nodes.__getitem__)
            nodes[node] = _call(body, node.target, args, kwargs, kind)
        elif node.op == "output":
            results = node.args[0]
            body.output(tuple(body.call_method("contiguous", (nodes[one],)) for one in results))
    module = fx.GraphModule(root, body, kind)
    shapes = [tuple(tensor.shape) for tensor in half.args] + [tuple(one.meta["val"].shape) for one in results]
    dtypes = [tensor.dtype for tensor in half.args] + [one.meta["val"].dtype for one in results]
    _tell(module, half, shapes, dtypes)
    return module


def _call(body: fx.Graph, target: Any, args: Any, kwargs: Any, kind: str) -> fx.Node:
    if target is aten.sym_size.int:
        return body.call_method("size", args)
    if target in (aten.view.default, aten._unsafe_view.default):  # of what may lie otherwise on another device
        return body.call_method("reshape", args)
    if target is aten._to_copy.default and set(kwargs) == {"dtype"}:
        return body.call_method("to", (*args, kwargs["dtype"]))
    if target in NUMBERS:
        return body.call_function(target, args, kwargs)
    if any(isinstance(value, torch.device) for value in kwargs.values()):
        raise ModelError(f"this {kind} makes tensors on the CPU whatever its input is on ({target}), which an archive "
                         "may not; make them of its parameters, or write it as onnx.")
    if str(target).removeprefix("aten.").partition(".")[0] not in WRITTEN:
        raise ModelError(f"this {kind} uses {target}, which is none of the operators of archives; write it as onnx.")
    return body.call_function(target.overloadpacket, args, kwargs)


def _only_checks(node: fx.Node) -> bool:
    return not node.users and "assert" in str(node.target)


def _tell(module: fx.GraphModule, half: Half, shapes: Sequence[Any], dtypes: Sequence[torch.dtype]) -> None:
    """The attributes that tell the tensors. The first axis of each is the batch."""
    names = (*half.inputs, *half.outputs)
    sizes = [[-1, *(size if isinstance(size, int) else -1 for size in shape[1:])] for shape in shapes]
    told = list(half.inputs), list(half.outputs), \
        {name: str(dtype).removeprefix("torch.") for name, dtype in zip(names, dtypes, strict=True)}, \
        dict(zip(names, sizes, strict=True))
    for name, value in zip(TOLD, told, strict=True):
        setattr(module, name, value)
