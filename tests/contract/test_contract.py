"""The exported example against docs/graph-contract.md: names, dtypes, shapes, and how states are written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "graph-contract.md").read_text(encoding="utf-8")
PARTS = {"step": "Step", "filtered": "Filtered step", "row": "Row", "prologue": "Prologue", "score": "Score"}
DTYPES = {"float32": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64, "bool": onnx.TensorProto.BOOL}
Table = dict[str, tuple[str, str]]  # name -> dtype, shape, as the page writes them


def tables(heading: str) -> dict[str, Table]:
    """The tables of one section by the first word of their heads: `input`, `output`, …"""
    (section,) = re.findall(rf"^## {heading}[,\n].*?(?=^## |\Z)", PAGE, re.M | re.S)
    found: dict[str, Table] = {}
    for block in re.findall(r"(?:^\|.*\n)+", section, re.M):
        head, _, *rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in block.splitlines()]
        for name in (name for row in rows for name in row[0].split(", ")):
            row = next(r for r in rows if name in r[0])
            found.setdefault(head[0], {})[name.strip("`")] = (row[1], row[2].strip("`"))
    return found


@pytest.fixture(scope="module")
def models(digits_graphs: dict[str, Path]) -> dict[str, onnx.ModelProto]:
    return {part: onnx.load(str(path), load_external_data=False) for part, path in digits_graphs.items()}


@pytest.fixture(scope="module")
def manifest(models: dict[str, onnx.ModelProto]) -> dict[str, Any]:
    (text,) = (p.value for p in models["step"].metadata_props if p.key == "pixelsnail_infer.manifest")
    return json.loads(text)


def tensors(values: Any) -> dict[str, tuple[int, list[int | str]]]:
    return {v.name: (v.type.tensor_type.elem_type, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim])
            for v in values}


def expand(table: Table, manifest: dict[str, Any]) -> Iterator[tuple[str, bool, list[str], list[int | str]]]:
    """Every tensor that a table names: name, whether it must be there, allowed dtypes, shape with `B` free."""
    (height, width), levels = manifest["shape"], manifest["pixel"]["levels"]
    sizes = {"H": height, "W": width, "L": levels, "S": manifest["row_result"]["width"]}
    for name, (dtype, shape) in table.items():
        group = {"prologue.<k>": "prologue", "state.<name>": "states", "state.<name>.out": "states",
                 "<condition>": "conditions", "row_result.<k>": "row_results"}.get(name)
        if group is None:
            dims: list[int | str] = [sizes.get(d, d) for d in shape.strip("[]").split(", ")]
            yield name, True, [dtype], [int(d) if str(d).isdecimal() else d for d in dims]
            continue
        for spec in manifest.get(group, ()):
            suffix = ".out" if name.endswith(".out") else ""
            assert group == "conditions" or spec["dtype"] in dtype or "as " in dtype
            yield spec["name"] + suffix, group == "row_results", [spec["dtype"]], ["B", *spec["shape"]]


def grown(shape: list[int | str]) -> list[int | str]:
    """A cache that grows, as the page has it: `[B, N, K, C]` in the place of `[B, N, S, C]`."""
    assert "`[B, N, K, C]`" in PAGE and "`K64`" in PAGE
    return [*shape[:2], f"K{shape[2]}", *shape[3:]]


@pytest.mark.parametrize("part", PARTS)
def test_every_tensor_is_on_the_page(part: str, models: dict[str, onnx.ModelProto], manifest: dict[str, Any]) -> None:
    page = tables(PARTS[part])
    if part == "filtered":
        step = tables("Step")
        page = {"input": step["input"] | page["input"], "output": step["output"]}
    graph = models[part].graph
    initializers = {tensor.name for tensor in graph.initializer}
    for kind, values in (("input", graph.input), ("output", graph.output)):
        found = tensors(values)
        assert not initializers & set(found)
        named = {name: (must, dtypes, shape) for name, must, dtypes, shape in expand(page[kind], manifest)}
        assert set(found) <= set(named), "a tensor that the page does not know"
        assert {name for name, (must, _, _) in named.items() if must} <= set(found)
        for name, (dtype, shape) in found.items():
            assert dtype in [DTYPES[d] for d in named[name][1]], name
            assert shape == (grown(named[name][2]) if part != "score" and name.split(".")[1:2] in (["keys"], ["values"])
                             else named[name][2]), name


def test_the_page_has_all_the_files(digits_graphs: dict[str, Path], manifest: dict[str, Any]) -> None:
    files = set(re.findall(r"^\| `out\.?(\w*)\.onnx` \|", PAGE, re.M)) - {"wave", "ahead"}
    assert files == {"" if part == "step" else part for part in digits_graphs} == {"", *manifest["files"]}
    for part in PARTS:
        assert tables(PARTS[part])


@pytest.mark.parametrize("part", PARTS)
def test_standard_operations_only(part: str, models: dict[str, onnx.ModelProto]) -> None:
    model = models[part]
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 24)]
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"} and not model.functions
    assert not [node.op_type for node in model.graph.node for a in node.attribute if a.HasField("g") or a.graphs]
    for tensor in model.graph.initializer:
        assert tensor.data_location == onnx.TensorProto.DEFAULT and not tensor.external_data
    assert "B" not in {v for values in (model.graph.input, model.graph.output) for _, shape in tensors(values).values()
                       for v in shape[1:]}
    key = "pixelsnail_infer." + ("manifest" if part == "step" else "part")
    assert {p.key for p in model.metadata_props} == {key}


@pytest.mark.parametrize("part", PARTS)
def test_nothing_is_computed_that_nobody_reads(part: str, models: dict[str, onnx.ModelProto]) -> None:
    graph = models[part].graph
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    assert [node.name for node in graph.node if not read & set(node.output)] == []
    assert {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input} <= read


@pytest.mark.parametrize("part", ["step", "filtered", "row"])
def test_states_are_written_by_one_scatter(
    part: str, models: dict[str, onnx.ModelProto], manifest: dict[str, Any]
) -> None:
    """From the graph's input to the graph's output, on axis 2, and nothing reads the result but attention."""
    graph = models[part].graph
    inputs, outputs = tensors(graph.input), tensors(graph.output)
    scatters = [node for node in graph.node if node.op_type == "TensorScatter"]
    writer = "row" if part == "row" else "step"
    written = [spec["name"] for spec in manifest["states"] if spec["writer"] == writer]
    assert sorted(node.input[0] for node in scatters) == sorted(written)
    assert sorted(f"{name}.out" for name in written) == sorted(n for n in outputs if n.startswith("state."))
    for node in scatters:
        state = node.input[0]
        assert state in inputs and list(node.output) == [f"{state}.out"]
        assert len(inputs[state][1]) == 4 and inputs[state] == outputs[f"{state}.out"]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        assert attributes == {"axis": 2, "mode": b"linear"}
        assert {n.op_type for n in graph.node if node.output[0] in n.input} <= {"MatMul"}
    assert not [n.op_type for n in graph.node if n.op_type.startswith("Scatter")], "another way to write"


def test_states_of_the_manifest(manifest: dict[str, Any]) -> None:
    (height, width), roles = manifest["shape"], set(tables("States")["role"])
    for spec in manifest["states"]:
        assert spec["dtype"] == "float32" and len(spec["shape"]) == 3 and spec["role"] in roles
        assert spec["name"].split(".")[:2] == ["state", spec["role"]]
        if spec["role"] in ("keys", "values"):
            assert spec["shape"][1] == height * width
        if spec["role"] == "pixels":
            assert spec["initial"] == manifest["pixel"]["levels"]


def test_the_manifest_on_the_page_has_the_keys_of_a_real_one(manifest: dict[str, Any]) -> None:
    (block,) = re.findall(r"^    (\{\"format_version\".*?\})\n\n", PAGE, re.M | re.S)
    assert set(re.findall(r'^ *\{?"(\w+)":|(?<=, )"(\w+)":(?= \{)', block, re.M)) and set(manifest) == {
        key for key in manifest if f'"{key}":' in block
    }
    assert manifest["format_version"] == int(re.findall(r"format version (\d+)", PAGE)[0])
