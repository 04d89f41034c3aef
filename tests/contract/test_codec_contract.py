"""Exported decoders and encoders against docs/graph-contract.md: names, dtypes, shapes, manifest."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from pixelsnail_infer.export import export_codec
from pixelsnail_infer.models.vqvae import VqVae
from pixelsnail_infer.models.vqvae_config import VqVaeConfig

PAGE = (Path(__file__).parents[2] / "docs" / "graph-contract.md").read_text(encoding="utf-8")
KINDS = ("decoder", "encoder")
DTYPES = {"float32": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64}
CONFIG = VqVaeConfig(shape=(16, 24), levels=(5, 7), channel=4, n_res_block=1, n_res_channel=2, embed_dim=3)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, onnx.ModelProto]:
    torch.manual_seed(0)
    folder, module = tmp_path_factory.mktemp("codecs"), VqVae(CONFIG)
    return {kind: onnx.load(export_codec(module, folder / f"{kind}.onnx", kind=kind).file) for kind in KINDS}


def manifest(model: onnx.ModelProto) -> dict[str, Any]:
    (entry,) = model.metadata_props
    assert entry.key == "pixelsnail_infer.manifest"
    return json.loads(entry.value)


def table(kind: str, side: str) -> list[tuple[str, str, str]]:
    """Rows of the page's table of a graph's inputs or outputs: name, dtype, shape."""
    (section,) = re.findall(rf"^## {kind.title()}, `{kind}.onnx`\n.*?(?=^## |\Z)", PAGE, re.M | re.S)
    (block,) = re.findall(rf"^\| {side} \|.*\n\|[-|]+\n((?:^\|.*\n)+)", section, re.M)
    return [tuple(cell.strip(" `") for cell in row.strip("|").split("|"))[:3] for row in block.splitlines()]


def named(kind: str, side: str, described: dict[str, Any]) -> dict[str, tuple[int, list[str | int]]]:
    """What the page and the manifest say together: dtype and shape by name."""
    found: dict[str, tuple[int, list[str | int]]] = {}
    for name, dtype, shape in table(kind, side):
        image = described["image"]
        for level in described["codes"] if name == "<level>" else [{"name": name, "shape": [0, 0]}]:
            sizes = {"h": level["shape"][0], "w": level["shape"][1], "H": image["shape"][0], "W": image["shape"][1],
                     "C": image["channels"]}
            found[level["name"]] = DTYPES[dtype], [sizes.get(dim, dim) for dim in shape.strip("[]").split(", ")]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_is_on_the_page(kind: str, models: dict[str, onnx.ModelProto]) -> None:
    graph, described = models[kind].graph, manifest(models[kind])
    for side, values in (("input", graph.input), ("output", graph.output)):
        found = {value.name: (value.type.tensor_type.elem_type,
                              [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim])
                 for value in values}
        assert found == named(kind, side, described)
    assert [(item.domain, item.version) for item in models[kind].opset_import] == [("", 24)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_manifest_on_the_page_has_the_keys_of_a_real_one(kind: str, models: dict[str, onnx.ModelProto]) -> None:
    (block,) = re.findall(r'^    (\{"kind": "decoder".*?\})\n\n', PAGE, re.M | re.S)
    shown = json.loads(block.replace("{...}", "{}"))
    described = manifest(models[kind])
    assert set(described) == set(shown) and described["kind"] == kind
    for key in ("image", "model", "checkpoint", "versions"):
        assert set(described[key]) == set(shown[key])
    assert set(described["codes"][0]) == set(shown["codes"][0])
