"""The products of ONNX files, as ONNX Runtime meets them: it runs a part as it is written and profiles it, which tells
the shapes of every node's operands and how many bytes of them are constants."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort

from pixelsnail_infer.errors import EngineError
from pixelsnail_infer.runtime.backends.onnxruntime_cpu import CpuBackend, OrtGraph
from pixelsnail_infer.runtime.backends.products import Product
from pixelsnail_infer.runtime.backends.protocol import Backend, BoundGraph, Graph
from pixelsnail_infer.runtime.files.graphfile import GraphFile, read_graph
from pixelsnail_infer.runtime.files.product_model import product_model

__all__ = ["OrtCounter", "products_in"]

_NOT_COUNTED = ("Attention", "Conv", "ConvInteger", "ConvTranspose", "Einsum", "MatMulInteger", "QLinearMatMul")
_ITEM_BYTES = {"float": 4, "float16": 2, "bfloat16": 2, "double": 8}
_END = "_kernel_time"


class OrtCounter(CpuBackend):
    """Sessions on the CPU whose graphs are left as they are written."""

    def __init__(self) -> None:
        super().__init__(1)
        self._sessions: dict[str, ort.InferenceSession] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="pixelsnail-infer.")

    def load(self, file: GraphFile) -> Graph:
        """Create the session."""
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(self._folder.name) / "profile")
        source = file.source if isinstance(file.source, bytes) else str(file.source)
        session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        self._sessions[file.what] = session
        return OrtGraph(session, file)

    def products(self, part: str) -> list[Product]:
        """See `ProductCounter`."""
        path = Path(self._sessions.pop(f"{part} graph").end_profiling())
        return list(products_in(json.loads(path.read_text())))

    def repeated(self, product: Product, copies: int, engine: Backend) -> BoundGraph:
        """See `ProductCounter`: a file of that product alone, in the engine that is timed."""
        batch, m, k, n = product.shape
        left, right = [m, k], [k, n]
        if batch > 1:
            left, right = [batch, *left], [batch, *right]
        graph = engine.load(read_graph(product_model(left, right, copies, bool(product.weight_bytes)), "product"))
        told = {**graph.inputs, **graph.outputs}
        held = {name: engine.allocate(tuple(size or 1 for size in told[name].shape), told[name].dtype) for name in told}
        for buffer in held.values():
            buffer.array[...] = 0.01
            buffer.push()
        return graph.bind(held, held)


def products_in(events: Sequence[Mapping[str, Any]]) -> Iterator[Product]:
    """The products in the profile of one run. Raises `EngineError` for a node that multiplies and is not counted."""
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith(_END):
            continue
        kind, told = event["args"]["op_name"], event["args"]
        if kind in _NOT_COUNTED:
            raise EngineError(f"The multiplications of {kind} are not counted; this export cannot be given a floor.")
        if kind in ("MatMul", "Gemm"):
            yield _product(kind, told)


def _product(kind: str, told: Mapping[str, Any]) -> Product:
    (one, left), (_, right) = (next(iter(shape.items())) for shape in told["input_type_shape"][:2])
    ((_, result),) = told["output_type_shape"][0].items()
    weights = int(told["parameter_size"])
    largest = max(math.prod(left), math.prod(right)) * _ITEM_BYTES[one]
    values = 0 if weights else largest
    if kind == "Gemm" or len(right) == 2:
        m, n = math.prod(result[:-1]), result[-1]
        return Product(1, m, math.prod(left) // m, n, weights, values)
    return Product(math.prod(result[:-2]), result[-2], left[-1], result[-1], weights, values)
