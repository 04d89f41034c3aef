"""A small writer of ONNX graphs: every operation is pure, so equal operations become one node, and equal constants one.

Only the standard `ai.onnx` domain, opset 24, no external data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from pixelsnail_infer.errors import ModelError

__all__ = ["OPSET", "GraphWriter"]

OPSET = 24
IR_VERSION = 11
LIMIT = 2**31 - 2**20  # protobuf refuses larger messages
TYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "int64": TensorProto.INT64,
         "bool": TensorProto.BOOL}
Shape = Sequence[int | str]


class GraphWriter:
    """Collects one graph. Values are names. Not to be shared by threads."""

    def __init__(self, name: str, precision: str = "float32") -> None:
        self.name, self.precision = name, precision
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.weights = 0  # numbers in floating-point constants
        self._known: dict[Any, list[str]] = {}
        self._constants: dict[Any, str] = {}
        self.prefix = ""

    def input(self, name: str, dtype: str, shape: Shape) -> str:
        """Declare a graph input once; the name is its value."""
        if all(value.name != name for value in self.inputs):
            self.inputs.append(helper.make_tensor_value_info(name, TYPES[dtype], list(shape)))
        return name

    def output(self, name: str, value: str, dtype: str, shape: Shape) -> None:
        """Declare a graph output and tie it to `value`, the result of a node that feeds no other output."""
        taken = {output.name for output in self.outputs}
        for node in self.nodes:
            if value in node.output and value not in taken:
                for other in self.nodes:
                    for k, given in enumerate(other.input):
                        if given == value:
                            other.input[k] = name
                node.output[list(node.output).index(value)] = name
                for names in self._known.values():
                    names[:] = [name if known == value else known for known in names]
                break
        else:
            self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, TYPES[dtype], list(shape)))

    def cast(self, value: str, dtype: str) -> str:
        """`value` as `dtype`; "float" is the graph's precision."""
        return self.op("Cast", value, to=TYPES[self.precision if dtype == "float" else dtype])

    def typed(self, value: str, dtype: torch.dtype) -> str:
        """`value`, which states and row results hold as a floating-point number, in the kind that it has elsewhere."""
        if dtype.is_floating_point:
            return value
        return self.cast(value, "bool" if dtype == torch.bool else "int64")

    def where(self, mask: str, yes: str, no: str, dtype: torch.dtype) -> str:
        """`yes` where the mask holds, else `no`; of truth values by logic, for which ONNX Runtime has no Where."""
        if dtype != torch.bool:
            return self.op("Where", mask, yes, no)
        return self.op("Or", self.op("And", mask, yes), self.op("And", self.op("Not", mask), no))

    def constant(self, value: torch.Tensor | np.ndarray[Any, Any] | Sequence[Any] | float | int) -> str:
        """A constant; floating-point values take the graph's precision."""
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        if array.dtype.kind == "f":
            array = array.astype(self.precision)
        elif array.dtype.kind in "iu":
            array = array.astype(np.int64)
        array = np.ascontiguousarray(array)
        key = (array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in self._constants:
            name = f"c{len(self._constants)}"
            self._constants[key] = name
            self.initializers[name] = numpy_helper.from_array(array, name)
            if array.dtype.kind == "f" and array.size > 1:
                self.weights += array.size
        return self._constants[key]

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One node with one result."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, results: int, *inputs: str, **attributes: Any) -> list[str]:
        """One node with several results; an equal node is used again."""
        key = (kind, results, inputs, tuple(sorted((k, repr(v)) for k, v in attributes.items())))
        if key not in self._known:
            number = len(self.nodes)
            names = [f"v{number}" if results == 1 else f"v{number}_{k}" for k in range(results)]
            node = helper.make_node(kind, list(inputs), names, name=f"{self.prefix}/{kind}_{number}", **attributes)
            self.nodes.append(node)
            self._known[key] = names
        return list(self._known[key])

    def model(self, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """The checked model, with metadata. Raises `ModelError` where it would not fit into one file."""
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, list(self.initializers.values()))
        size = sum(len(t.raw_data) for t in self.initializers.values())
        if size > LIMIT:
            raise ModelError(f"the {self.name} graph has {size / 2**30:.1f} GiB of weights; a file holds at most "
                             "2 GiB.")
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="pixelsnail-infer")
        model.ir_version = IR_VERSION
        helper.set_model_props(model, dict(metadata))
        if size < 2**26:
            onnx.checker.check_model(model, full_check=True)
        return model
