"""`without_elu`: the same function in other nodes, and everything else of the file as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from pixelsnail_infer.runtime.files.elu import without_elu
from pixelsnail_infer.runtime.files.protobuf import WireError


def model(alphas: list[float | None], shape: list[int | str]) -> bytes:
    """x + w → Elu → Elu → …, with a name that only metadata has."""
    weight = numpy_helper.from_array(np.float32([0.25]), "w")
    nodes = [helper.make_node("Add", ["x", "w"], ["y0"])]
    for k, alpha in enumerate(alphas):
        more = {} if alpha is None else {"alpha": alpha}
        nodes.append(helper.make_node("Elu", [f"y{k}"], [f"y{k + 1}"], name=f"elu_{k}", **more))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", f"y{len(alphas)}")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=11)
    helper.set_model_props(made, {"key": "Elu"})
    return bytes(made.SerializeToString())


def run(data: bytes, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize("alphas", [[None], [1.0], [0.5, None, 2.0], [-1.5, -1.5]])
@pytest.mark.parametrize("shape", [["B", 3, 8], ["B"]])
def test_it_is_the_same_function(alphas: list[float | None], shape: list[int | str]) -> None:
    before = model(alphas, shape)
    after = without_elu(before)
    made = onnx.load_from_string(after)
    onnx.checker.check_model(made, full_check=True)
    assert "Elu" not in {node.op_type for node in made.graph.node}
    assert made.metadata_props == onnx.load_from_string(before).metadata_props
    x = np.random.default_rng(0).normal(0, 3, [4 if size == "B" else size for size in shape]).astype(np.float32)
    x.flat[:4] = [0, -0.25, 1e30, -1e30]
    np.testing.assert_allclose(run(after, x), run(before, x), rtol=1e-6, atol=1e-7)


def test_other_models_are_left_as_they_are(digits_graphs: dict[str, Path]) -> None:
    held = digits_graphs["row"].read_bytes()
    assert without_elu(held) is held
    plain = model([], ["B"])
    assert without_elu(plain) is plain


def test_an_export_keeps_its_weights_and_metadata(digits_graphs: dict[str, Path]) -> None:
    held = digits_graphs["step"].read_bytes()
    before, after = onnx.load_from_string(held), onnx.load_from_string(without_elu(held))
    onnx.checker.check_model(after, full_check=True)
    assert after.metadata_props == before.metadata_props and after.opset_import == before.opset_import
    count = len(before.graph.initializer)
    assert list(after.graph.initializer)[:count] == list(before.graph.initializer)
    assert (after.graph.input, after.graph.output) == (before.graph.input, before.graph.output)
    others = [[node for node in made.graph.node if node.op_type != "Elu" and "/Elu_" not in node.name]
              for made in (before, after)]
    assert others[0] == others[1] and len(others[0]) < len(before.graph.node)


@pytest.mark.parametrize("data", [b"\x3a\x05ab", b"\xff" * 12, model([None], ["B"])[:-3]])
def test_what_is_no_model_is_told(data: bytes) -> None:
    with pytest.raises(WireError):
        without_elu(data)


def test_numbers_of_both_kinds_in_one_graph_of_half_precision() -> None:
    """What is float32 there stays so; the new numbers take the kind of what they are used with."""
    kinds = {"x": TensorProto.FLOAT16, "w": TensorProto.FLOAT}
    inputs = [helper.make_tensor_value_info(name, kind, ["B", 4]) for name, kind in kinds.items()]
    nodes = [helper.make_node("Mul", ["x", "factor"], ["x1"]),
             helper.make_node("Elu", ["x1"], ["x2"], "one", alpha=0.5),
             helper.make_node("Elu", ["w"], ["w2"], "other")]
    outputs = [helper.make_tensor_value_info(f"{name}2", kind, ["B", 4]) for name, kind in kinds.items()]
    factor = numpy_helper.from_array(np.array([2.0], np.float16), "factor")
    graph = helper.make_graph(nodes, "half", inputs, outputs, [factor])
    before = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10).SerializeToString()
    after = without_elu(before)
    assert "Elu" not in [node.op_type for node in onnx.load_from_string(after).graph.node]
    numbers = np.linspace(-4, 4, 12).reshape(3, 4)
    feeds = {"x": numbers.astype(np.float16), "w": numbers.astype(np.float32)}
    expected, found = (ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feeds)
                       for model in (before, after))
    for one, other, eps in zip(found, expected, (2e-3, 1e-6), strict=True):
        assert one.dtype == other.dtype and np.abs(one - other).max() <= eps
