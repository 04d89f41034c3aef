"""The tables that codes and classes are looked up in, found without an engine, against what the manifest promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pixelsnail_infer.errors import BackendError, GraphFileError
from pixelsnail_infer.manifest import METADATA_KEY
from pixelsnail_infer.runtime import load, load_decoder
from pixelsnail_infer.runtime.files.graphfile import read_graph
from pixelsnail_infer.runtime.requests import memory

from ..codec import synthetic as codec
from ..runtime import synthetic


def tables(*nodes: onnx.NodeProto, dims: tuple[int, ...] = (5, 2), packed: bool = True) -> dict[str, int]:
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["B"]) for name in ("x", "y")]
    table = numpy_helper.from_array(np.zeros(dims, np.float32), "T")
    graph = helper.make_graph(list(nodes), "g", inputs, [], initializer=[table])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)])
    return read_graph(model.SerializeToString()).tables


def look(index: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node("Gather", ["T", index], ["out"], **attributes)


def test_numbers_are_followed_where_they_are_only_moved() -> None:
    node = helper.make_node
    assert tables(look("x")) == {"x": 5} and tables(look("x", axis=-1)) == {"x": 2}
    assert tables(look("x", axis=1), look("x")) == {"x": 2}
    moved = [node("Reshape", ["x", "s"], ["a"]), node("Cast", ["a"], ["b"], to=TensorProto.FLOAT),
             node("Concat", ["y", "b"], ["c"], axis=0), node("Cast", ["c"], ["d"], to=TensorProto.INT64)]
    assert tables(*moved, look("d")) == {"x": 5, "y": 5}
    constant = node("Constant", [], ["K"], value=numpy_helper.from_array(np.zeros((3, 1)), "v"))
    assert tables(constant, node("Gather", ["K", "x"], ["o"])) == {"x": 3}


@pytest.mark.parametrize("kind, attributes", [
    ("Add", {}), ("Mod", {}), ("Min", {}), ("Where", {}), ("Clip", {}), ("Cast", {"to": TensorProto.BOOL}),
    ("Cast", {"to": TensorProto.UINT8}),
])  # fmt: skip
def test_what_is_computed_is_not_followed(kind: str, attributes: dict[str, Any]) -> None:
    inputs = ["x"] if kind == "Cast" else ["x", "x"]
    assert tables(helper.make_node(kind, inputs, ["a"], **attributes), look("a")) == {}


def altered(step: bytes, change: Any) -> bytes:
    model = onnx.ModelProto.FromString(step)
    document = json.loads(model.metadata_props[0].value)
    change(document)
    helper.set_model_props(model, {METADATA_KEY: json.dumps(document)})
    return model.SerializeToString()


def test_a_second_graph_or_manifest_is_refused() -> None:
    whole = synthetic.build()["step"]
    model = onnx.ModelProto.FromString(whole)
    for message, extra in (
        ("it has two graphs", onnx.ModelProto(graph=model.graph)),
        ("its metadata has .* twice", onnx.ModelProto(metadata_props=model.metadata_props)),
    ):
        with pytest.raises(GraphFileError, match=message):
            read_graph(whole + extra.SerializeToString())


def promise(levels: int) -> Any:
    return lambda document: document["conditions"][0].update(levels=levels)


def test_more_classes_than_the_table_has_are_refused_at_load() -> None:
    parts = synthetic.build()
    step = parts.pop("step")
    load(altered(step, promise(synthetic.K)), siblings=parts).close()
    with pytest.raises(GraphFileError, match="the prologue graph: the manifest promises 20 codes for 'label'.* 3 row"):
        load(altered(step, promise(20)), siblings=parts)


def test_more_codes_than_a_code_book_has_are_refused_at_load() -> None:
    levels = {spec["name"]: spec["levels"] for spec in json.loads(codec.manifest().to_json())["codes"]}
    load_decoder(codec.build()).close()
    for place, name in enumerate(levels):
        with pytest.raises(GraphFileError, match=f"the decoder: the manifest promises 9 codes for '{name}'"):
            load_decoder(altered(codec.build(), lambda document, at=place: document["codes"][at].update(levels=9)))


def test_the_tables_of_a_real_export_are_found(digits_graphs: dict[str, Path]) -> None:
    found = {part: read_graph(path).tables for part, path in digits_graphs.items()}
    assert found["prologue"] == {"label": 11}  # one row stands for no class
    assert found["score"]["pixels"] == found["step"]["state.pixels.0"] == found["row"]["state.pixels.0"] == 18
    step = digits_graphs["step"]
    siblings = {part: path.read_bytes() for part, path in digits_graphs.items() if part != "step"}
    with pytest.raises(GraphFileError, match="promises 20 codes for 'label'"):
        load(altered(step.read_bytes(), promise(20)), siblings=siblings)


def test_buffers_larger_than_the_machine_are_refused_at_load(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = synthetic.build()
    step = parts.pop("step")
    for available, fits in ((100_000, True), (400, False)):
        monkeypatch.setattr(memory, "machine_memory", lambda held=available: held)
        for call in (lambda: load(step, siblings=parts), lambda: load_decoder(codec.build())):
            if fits:
                call().close()
            else:
                with pytest.raises(BackendError, match="for one image, but this machine has 400"):
                    call()
