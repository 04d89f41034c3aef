"""The exported images' graphs against the section of docs/graph-contract.md that is about them."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest

from pixelsnail_infer.manifest import sibling_path
from pixelsnail_infer.runtime import Sampler

from .networks import CASES, exported

PAGE = (Path(__file__).parents[2] / "docs" / "graph-contract.md").read_text(encoding="utf-8")
(SECTION,) = re.findall(r"^## Images\n.*?(?=^## )", PAGE, re.M | re.S)
ROWS = re.findall(r"^\| `(\w+)` \| (\w+) \| `\[(.*?)\]` \|", SECTION, re.M)
TYPES = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT64: "int64", onnx.TensorProto.BOOL: "bool"}
OTHERS = {"row", "rows", "col", "row_result", "temperature", "use_given"}


def test_the_graphs_have_the_tensors_of_the_page(name: str, sampler: Sampler) -> None:
    law, (height, width) = CASES[name].law, CASES[name].shape
    sizes = {"H": height, "W": width, "D": law.channels, "n": law.parameters, "M + D": law.n_mix + law.channels}
    assert {row[0] for row in ROWS} == {"noise", "given", "logits", "pixel", "pixels", "logprob"}
    for part in ("step", "score"):
        path = exported(name) if part == "step" else sibling_path(exported(name), part)
        graph = onnx.load(str(path)).graph
        seen = set()
        for value in (*graph.input, *graph.output):
            if value.name in OTHERS or value.name.startswith(("state.", "prologue.")):
                continue
            (row,) = (row for row in ROWS if row[0] == value.name)
            shape = [sizes.get(size, size) for size in row[2].split(", ")]
            if value.name == "logits" and part == "score":
                shape = ["B", height, width, law.parameters]
            kind = value.type.tensor_type
            assert TYPES[kind.elem_type] == row[1]
            assert [dim.dim_param or dim.dim_value for dim in kind.shape.dim] == shape
            seen.add(value.name)
        assert seen == ({"pixels", "logprob", "logits"} if part == "score" else {"noise", "given", "logits", "pixel"})
        assert {node.domain for node in graph.node} <= {"", "ai.onnx"}
    assert not sibling_path(exported(name), "filtered").exists()


@pytest.mark.parametrize("key", ["channels", "n_mix", "round", "logistic-mixture"])
def test_the_page_has_the_keys_of_the_manifest(key: str, sampler: Sampler) -> None:
    assert f'"{key}"' in SECTION and f'"{key}"' in sampler.manifest.to_json()
