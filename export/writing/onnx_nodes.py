"""The nodes and initializers of one ONNX graph while it is written: equal nodes become one, and equal constants.

The graph has no equal operations, but what spells two of them may have nodes in common.
"""

from __future__ import annotations

import hashlib
from collections import ChainMap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from pixelsnail_infer.export.emission.builder import FLOATS
from pixelsnail_infer.export.emission.graph import Graph, Kind, Value

__all__ = ["Nodes"]

TYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "float16": TensorProto.FLOAT16,
         "bfloat16": TensorProto.BFLOAT16, "wide": TensorProto.FLOAT, "int": TensorProto.INT64,
         "bool": TensorProto.BOOL}


class Nodes:
    """Collects nodes. `w[value]` is the name that a value of the graph has here."""

    def __init__(self, graph: Graph) -> None:
        self.precision = graph.precision
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.names = {entry.value: entry.value.name for entry in graph.inputs}
        self.module = ""  # before the names of nodes
        self._constants: dict[str, str] = {}
        self._known: ChainMap[tuple[Any, ...], list[str]] = ChainMap()
        self._count = 0  # nodes, those of branches too

    def __getitem__(self, value: Value) -> str:
        return self.names[value]

    def type_of(self, kind: Kind) -> int:
        """ONNX's number for a kind."""
        return int(TYPES[self.precision if kind == "float" else kind])

    def constant(self, array: NDArray[Any], digest: str = "") -> str:
        """An initializer; `digest` names its dtype, shape and numbers."""
        if not digest:
            digest = hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + array.tobytes()).hexdigest()
        if digest not in self._constants:
            name = f"c{len(self._constants)}"
            self._constants[digest] = name
            self.initializers.append(numpy_helper.from_array(array, name))
        return self._constants[digest]

    def whole(self, *numbers: int) -> str:
        """Whole numbers `[n]`: axes, sizes, places."""
        return self.constant(np.array(numbers, np.int64))

    def number(self, number: float | int | bool, like: Kind = "float") -> str:
        """One number `[1]`; a floating-point one of this kind."""
        real = helper.tensor_dtype_to_np_dtype(self.type_of(like if like in FLOATS else "float"))
        dtype = np.bool_ if isinstance(number, bool) else np.int64 if isinstance(number, int) else real
        return self.constant(np.array([number], dtype))

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One node with one result; an equal node is used again."""
        return self.several(kind, 1, inputs, **attributes)[0]

    def several(self, kind: str, results: int, inputs: Sequence[str], **attributes: Any) -> list[str]:
        """One node with several results; an equal node is used again."""
        key = (kind, tuple(inputs), *sorted(attributes.items()))
        if key not in self._known:
            self._known[key] = self.append(kind, results, inputs, **attributes)
        return self._known[key]

    def copy(self, name: str) -> str:
        """A node of its own that gives what it takes."""
        return self.append("Identity", 1, [name])[0]

    @contextmanager
    def branch(self) -> Iterator[list[NodeProto]]:
        """The next nodes are a graph of their own, which sees what is there already."""
        outer, known = self.nodes, self._known
        self.nodes, self._known = [], known.new_child()
        try:
            yield self.nodes
        finally:
            self.nodes, self._known = outer, known

    def append(self, kind: str, results: int, inputs: Sequence[str], **attributes: Any) -> list[str]:
        """A node of its own."""
        number, self._count = self._count, self._count + 1
        names = [f"v{number}" if results == 1 else f"v{number}_{k}" for k in range(results)]
        name = f"{self.module}/{kind}_{number}"
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=name, **attributes))
        return names
