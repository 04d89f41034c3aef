"""`with_whole_axes`: axes that may be shorter get their full length, and everything else stays as it was."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from pixelsnail_infer.runtime.files.protobuf import WireError
from pixelsnail_infer.runtime.files.whole_axes import with_whole_axes


def model(shape: list[int | str]) -> bytes:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "K7", ends[:1], ends[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=11)
    helper.set_model_props(made, {"K8": "K9"})
    return bytes(made.SerializeToString())


def sizes(model: onnx.ModelProto, name: str) -> list[int | str]:
    (value,) = (value for value in (*model.graph.input, *model.graph.output) if value.name == name)
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_only_axes_with_such_a_name_change() -> None:
    expected = onnx.load_from_string(model(["B", 8, 1024, 16]))
    assert onnx.load_from_string(with_whole_axes(model(["B", 8, "K1024", 16]))) == expected
    for shape in (["B", 8, 1024, 16], ["K", "Kx1", "aK1", "K1 "]):
        held = model(shape)
        assert with_whole_axes(held) is held


@pytest.mark.parametrize("part", ["step", "filtered", "row"])
def test_an_export_has_its_caches_in_full(digits_graphs: dict[str, Path], part: str) -> None:
    held = digits_graphs[part].read_bytes()
    before, after = onnx.load_from_string(held), onnx.load_from_string(with_whole_axes(held))
    onnx.checker.check_model(after, full_check=True)
    assert after.graph.node == before.graph.node and after.graph.initializer == before.graph.initializer
    caches = [value.name for value in before.graph.input if ".keys." in value.name or ".values." in value.name]
    assert len(caches) == (0 if part == "row" else 4)
    for name in caches:
        (batch, heads, name_of_axis, width), whole = sizes(before, name), sizes(after, name)
        assert name_of_axis == "K64" and whole == [batch, heads, 64, width] == sizes(after, f"{name}.out")


def test_what_is_no_model_is_told() -> None:
    with pytest.raises(WireError):
        with_whole_axes(model(["K4"])[:-3])
