"""The wave graphs of a small export against docs/graph-contract.md: names, dtypes, shapes, how states are written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from pixelsnail_infer.export import export_model
from pixelsnail_infer.export.analysis import wave as analysis
from pixelsnail_infer.manifest import Manifest, sibling_path

from ..export.files import models as networks
from .test_contract import DTYPES, Table, tables, tensors

PARTS = {"wave": "Wave", "ahead": "Ahead"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, dict[str, onnx.ModelProto]]:
    target, config = tmp_path_factory.mktemp("waves") / "out.onnx", networks.CONFIGS["codes"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis, "LARGE", 1)  # so that there is something ahead
        done = export_model(networks.prior("codes"), target, levels=config.levels, shape=config.shape,
                            conditions=networks.conditions(config), schedule="both")
    return done.manifest, {part: onnx.load(str(sibling_path(target, part))) for part in PARTS}


def expanded(table: Table, manifest: Manifest) -> Iterator[tuple[str, bool, str, list[int | str]]]:
    """Every tensor that a table names: name, whether it must be there, dtype, shape."""
    assert manifest.wave is not None and manifest.wave.ahead is not None
    sizes: dict[str, int | str] = {"L": manifest.levels, "S": manifest.wave.ahead}
    groups: dict[str, Any] = {"prologue.<k>": manifest.prologue, "state.<name>": manifest.wave.states,
                              "state.<name>.out": manifest.wave.states}
    for name, (dtype, shape) in table.items():
        for spec in groups.get(name, ()):
            yield spec.name + (".out" if name.endswith(".out") else ""), False, spec.dtype, ["B", *spec.shape]
        if name not in groups:
            yield name, True, dtype, [sizes.get(size, size) for size in shape.strip("[]").split(", ")]


@pytest.mark.parametrize("part", PARTS)
def test_every_tensor_is_on_the_page(part: str, exported: tuple[Manifest, dict[str, onnx.ModelProto]]) -> None:
    manifest, graphs = exported
    page, graph = tables(PARTS[part]), graphs[part].graph
    for kind, values in (("input", graph.input), ("output", graph.output)):
        found = tensors(values)
        named = {name: (must, dtype, shape) for name, must, dtype, shape in expanded(page[kind], manifest)}
        assert {name for name, (must, _, _) in named.items() if must} <= set(found) <= set(named)
        for name, (dtype, shape) in found.items():
            assert dtype == DTYPES[named[name][1]] and shape == named[name][2], name
    assert [(prop.key, prop.value) for prop in graphs[part].metadata_props] == [("pixelsnail_infer.part", part)]


def test_states_are_written_by_one_scatter(exported: tuple[Manifest, dict[str, onnx.ModelProto]]) -> None:
    manifest, graphs = exported
    assert manifest.wave is not None
    nodes = graphs["wave"].graph.node
    scatters = {node.input[0]: node.output[0] for node in nodes if node.op_type == "ScatterND"}
    assert scatters == {state.name: f"{state.name}.out" for state in manifest.wave.states}
    assert not [node for node in nodes if set(node.input) & set(scatters.values())], "nothing reads what is written"
    assert not [node for node in graphs["ahead"].graph.node if node.op_type.startswith(("Scatter", "TensorScatter"))]
    for state in manifest.wave.states:
        assert state.shape[1] % (manifest.width + 1) or state.shape[1] > manifest.width


def test_the_manifest_has_the_keys_of_the_page(exported: tuple[Manifest, dict[str, onnx.ModelProto]]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "graph-contract.md").read_text(encoding="utf-8")
    (block,) = [line for line in page.splitlines() if line.startswith('    "wave": {')]
    found = {**json.loads(exported[0].to_json())["wave"], "lead": 1}  # which this network has not
    assert all(f'"{key}":' in block for key in found) and block.count('":') == len(found) + 2
