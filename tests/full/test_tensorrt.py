"""Every exported graph builds a TensorRT engine: the contract may not drift away from what TensorRT takes.

TensorRT for RTX compiles for a named GPU architecture, so no GPU and no driver are needed; engines are not run here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from pixelsnail_infer.export.codecs.graph import build_graph
from pixelsnail_infer.models.first_stage import FirstStage
from pixelsnail_infer.models.first_stage_config import FirstStageConfig
from pixelsnail_infer.models.vqvae import VqVae
from pixelsnail_infer.models.vqvae_config import VqVaeConfig

pytestmark = pytest.mark.full
pytest.importorskip("tensorrt_rtx_bindings", reason="needs the tensorrt-rtx extra (make test-full)")

ENGINE = Path(__file__).with_name("engine.py")
PARTS = ("step", "row", "prologue", "score", "filtered")
SMALL = VqVaeConfig(shape=(32, 64), levels=(16, 24), channel=16, n_res_channel=8, embed_dim=8)
FIRST_STAGES = {
    "two_levels": lambda: VqVae(SMALL),
    "branches": lambda: VqVae(
        replace(SMALL, levels=(16,), in_channel=1, kernels=(4, 2, 6, 8), suffix="_b", relu_inplace=True)
    ),
    "first_stage": lambda: FirstStage(
        FirstStageConfig(shape=(32, 64), levels=64, ch=32, widths=(32, 64), attention=(1,), z_channels=4, embed_dim=4)
    ),
}


class EngineError(Exception):
    """TensorRT's parser or builder refused a graph, or ended its process."""


def build_engine(model: bytes, folder: Path) -> tuple[int, list[str]]:
    """Parse and compile for SM89 in a process of its own; the engine's bytes and the kinds of the network's layers."""
    path = folder / "model.onnx"
    path.write_bytes(model)
    done = subprocess.run([sys.executable, str(ENGINE), str(path)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EngineError(f"the builder's process ended with {done.returncode}: {done.stderr[-2000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    if "error" in result:
        raise EngineError(result["error"])
    return result["size"], result["layers"]


@pytest.mark.parametrize("part", PARTS)
def test_every_exported_graph_builds_an_engine(digits_graphs: dict[str, Path], part: str, tmp_path: Path) -> None:
    if part not in digits_graphs:
        assert part in ("prologue", "filtered"), f"the export wrote no {part} graph"
        pytest.skip(f"the digits export has no {part} graph")
    model = onnx.load(str(digits_graphs[part]))
    size, layers = build_engine(model.SerializeToString(), tmp_path)
    assert size > 0
    scatters = sum(node.op_type == "TensorScatter" for node in model.graph.node)
    assert layers.count("KV_CACHE_UPDATE") == scatters, "a state is not updated in place"


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
@pytest.mark.parametrize("name", list(FIRST_STAGES))
def test_both_halves_of_every_first_stage_build_an_engine(name: str, kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_graph(FIRST_STAGES[name](), kind)
    assert build_engine(model.SerializeToString(), tmp_path)[0] > 0


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


def test_a_scatter_is_an_in_place_update_that_others_may_read(tmp_path: Path) -> None:
    assert build_engine(scatter_model(), tmp_path)[1].count("KV_CACHE_UPDATE") == 1


@pytest.mark.parametrize("wrong", [{"dtype": TensorProto.INT64}, {"mode": "circular"}, {"chained": True}], ids=str)
def test_what_tensorrt_refuses_is_seen(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(EngineError):
        build_engine(scatter_model(**wrong), tmp_path)
