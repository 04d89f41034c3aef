"""Every exported graph builds a TensorRT engine: the contract may not drift away from what TensorRT takes.

TensorRT for RTX compiles for a named GPU architecture, so no GPU and no driver are needed; engines are not run here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

pytestmark = pytest.mark.full
trt = pytest.importorskip("tensorrt_rtx_bindings", reason="needs the tensorrt-rtx extra (make test-full)")

BATCH = (1, 4, 16)  # smallest, typical, largest
PARTS = ("step", "row", "prologue", "score", "filtered")


class EngineError(Exception):
    """TensorRT's parser or builder refused a graph."""


class Log(trt.ILogger):  # type: ignore[misc]
    """Keeps errors, so that a failing test can show them."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []

    def log(self, severity: Any, message: str) -> None:
        if severity <= trt.ILogger.Severity.ERROR:
            self.errors.append(message)


def build_engine(model: bytes) -> tuple[int, list[str]]:
    """Parse and compile for SM89; returns the engine's bytes and the kinds of the network's layers."""
    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        reasons = [parser.get_error(i) for i in range(parser.num_errors)]
        raise EngineError("parser: " + "; ".join(f"{r.node_operator()} {r.node_name()}: {r.desc()}" for r in reasons))
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if -1 in shape:
            profile.set_shape(tensor.name, *(tuple(b if d == -1 else d for d in shape) for b in BATCH))
    config = builder.create_builder_config()
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise EngineError("builder: " + "; ".join(log.errors))
    return int(engine.nbytes), [network.get_layer(i).type.name for i in range(network.num_layers)]


@pytest.mark.parametrize("part", PARTS)
def test_every_exported_graph_builds_an_engine(digits_graphs: dict[str, Path], part: str) -> None:
    if part not in digits_graphs:
        assert part in ("prologue", "filtered"), f"the export wrote no {part} graph"
        pytest.skip(f"the digits export has no {part} graph")
    model = onnx.load(str(digits_graphs[part]))
    size, layers = build_engine(model.SerializeToString())
    assert size > 0
    scatters = sum(node.op_type == "TensorScatter" for node in model.graph.node)
    assert layers.count("KV_CACHE_UPDATE") == scatters, "a state is not updated in place"


def test_no_part_is_unknown_to_this_test(digits_graphs: dict[str, Path]) -> None:
    assert set(digits_graphs) <= set(PARTS)


def scatter_model(dtype: int = TensorProto.FLOAT, mode: str = "linear", chained: bool = False) -> bytes:
    """A state [B, 2, 16, 4] that takes one position, read before and after."""
    state, update, at = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (
            ("state.x", dtype, ["B", 2, 16, 4]), ("update", dtype, ["B", 2, 1, 4]), ("at", TensorProto.INT64, ["B"]),
        )
    ]
    result = helper.make_tensor_value_info("state.x.out", dtype, ["B", 2, 16, 4])
    first = "middle" if chained else "state.x.out"
    nodes = [helper.make_node("TensorScatter", ["state.x", "update", "at"], [first], axis=2, mode=mode)]
    if chained:
        nodes.append(helper.make_node("TensorScatter", [first, "update", "at"], ["state.x.out"], axis=2, mode=mode))
    outputs = [result]
    for name, source in (("before", "state.x"), ("after", "state.x.out")):
        nodes.append(helper.make_node("Gather", [source, "column"], [name], axis=2))
        outputs.append(helper.make_tensor_value_info(name, dtype, ["B", 2, 1, 4]))
    column = onnx.numpy_helper.from_array(np.array([3]), "column")
    graph = helper.make_graph(nodes, "scatter", [state, update, at], outputs, [column])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)])
    return bytes(model.SerializeToString())


def test_a_scatter_is_an_in_place_update_that_others_may_read() -> None:
    assert build_engine(scatter_model())[1].count("KV_CACHE_UPDATE") == 1


@pytest.mark.parametrize("wrong", [{"dtype": TensorProto.INT64}, {"mode": "circular"}, {"chained": True}], ids=str)
def test_what_tensorrt_refuses_is_seen(wrong: dict[str, Any]) -> None:
    with pytest.raises(EngineError):
        build_engine(scatter_model(**wrong))
