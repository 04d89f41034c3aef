"""Every graph that the exporter writes builds a TensorRT engine, and every state is updated in place: the contract may
not drift away from what TensorRT takes.

TensorRT for RTX compiles for named GPU architectures, so no GPU and no driver are needed; engines are not run here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from pixelsnail_infer.checkpoints import load_checkpoint
from pixelsnail_infer.distributions import Categorical, LogisticMixture
from pixelsnail_infer.export.cli import main as export_main
from pixelsnail_infer.export.codecs.graph import build_graph
from pixelsnail_infer.export.source.options import ExportOptions
from pixelsnail_infer.export.source.source_model import recognised_model
from pixelsnail_infer.export.source.user_model import user_model
from pixelsnail_infer.manifest import ConditionSpec
from pixelsnail_infer.models import Prior, PriorConfig, Snail
from pixelsnail_infer.models.first_stage import FirstStage
from pixelsnail_infer.models.first_stage_config import FirstStageConfig
from pixelsnail_infer.models.snail_config import NAMED
from pixelsnail_infer.models.vqvae import VqVae
from pixelsnail_infer.models.vqvae_config import VqVaeConfig

from .building import EngineError, build_engine, graphs

pytestmark = pytest.mark.full
pytest.importorskip("tensorrt_rtx_bindings", reason="needs the tensorrt-rtx extra (make test-full)")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PARTS = {"step", "row", "prologue", "score", "filtered"}
TOP = PriorConfig(shape=(32, 32), levels=512, channel=256, kernel_size=5, n_block=4, n_res_block=4, res_channel=256)
BOTTOM = replace(TOP, shape=(64, 64), attention=False, condition="codes", cond_res_block=3, cond_res_channel=256)
CONDITION = ConditionSpec("condition", "codes", (32, 32), "int64", 512)
SMALL = VqVaeConfig(shape=(32, 64), levels=(16, 24), channel=16, n_res_channel=8, embed_dim=8)
FIRST_STAGES: dict[str, Callable[[], Any]] = {
    "example": lambda: load_checkpoint(EXAMPLES / "vqvae.pt", options=replace(ExportOptions(), shape=(64, 64))).module,
    "stock": lambda: VqVae(VqVaeConfig(shape=(256, 256))),
    "two_levels": lambda: VqVae(SMALL),
    "branches": lambda: VqVae(
        replace(SMALL, levels=(16,), in_channel=1, kernels=(4, 2, 6, 8), suffix="_b", relu_inplace=True)
    ),
    "first_stage": lambda: FirstStage(
        FirstStageConfig(shape=(32, 64), levels=64, ch=32, widths=(32, 64), attention=(1,), z_channels=4, embed_dim=4)
    ),
}


def snail(name: str, nr_resnet: int = 4) -> tuple[Any, ...]:
    """A published network of images; it has 4 residual blocks in each of its blocks."""
    config = replace(NAMED[name], nr_resnet=nr_resnet)
    return Snail(config), LogisticMixture(config.nr_mix, config.channels), config.shape, ()


def example(name: str) -> tuple[Any, ...]:
    """A prior among the examples."""
    model = recognised_model(load_checkpoint(EXAMPLES / f"{name}.pt", options=ExportOptions()), False)
    return model.module, model.distribution, model.shape, model.conditions


class Fronted(torch.nn.Module):
    """The example's network with four further tokens in front: three codes and a learned one."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net, self.start = net, torch.nn.Parameter(torch.zeros(1, 1, 96))

    def forward(self, codes: torch.Tensor, label: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        net, start = self.net, self.start.expand(len(codes), -1, -1)
        front = [net.pixel(condition[:, 0]), net.label(label)[:, None], start]
        x = torch.cat([*front, net.pixel(codes.flatten(1))[:, :-1]], 1)
        mask = torch.nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        return net.logits(net.layers(x, mask))[:, -64:].transpose(1, 2).unflatten(2, (8, 8))


def transformer() -> tuple[Any, ...]:
    """The example, a class in front."""
    with user_model(f"{EXAMPLES / 'digits_transformer.py'}:DigitsTransformer", {}) as module:
        return module, Categorical(17), (8, 8), (ConditionSpec("label", "class", (), "int64", 10),)


def fronted() -> tuple[Any, ...]:
    """Tokens before the canvas, attended to in one softmax with the caches."""
    net, law, shape, (label,) = transformer()
    return Fronted(net), law, shape, (label, ConditionSpec("condition", "codes", (1, 3), "int64", 17))


STOCK: dict[str, Callable[[], tuple[Any, ...]]] = {
    "top": lambda: (Prior(TOP), Categorical(512), TOP.shape, ()),
    "bottom": lambda: (Prior(BOTTOM), Categorical(512), BOTTOM.shape, (CONDITION,)),
    "h12_noup_smallkey": lambda: snail("h12_noup_smallkey"),  # h8 is the same with fewer blocks
    "h12_pool2_smallkey": lambda: snail("h12_pool2_smallkey", nr_resnet=1),
    "h6_shift": lambda: snail("h6_shift", nr_resnet=1),
    "transformer": transformer,
    "tokens_in_front": fronted,
}
PRIORS = ("digits", "patches", "pixelcnn_digits", "vqvae_top", "vqvae_bottom")


def check(part: str, model: Any, folder: Path) -> None:
    """One graph builds, and each state that it writes is written in place, by one layer."""
    states = [output.name for output in model.graph.output if output.name.startswith("state.")]
    written = states if part != "score" else []  # which makes states, and takes none
    scatters = [node for node in model.graph.node if node.op_type == "TensorScatter"]
    size, layers = build_engine(model.SerializeToString(), folder)
    assert size > 0
    assert layers.count("KV_CACHE_UPDATE") == len(scatters) == len(written), f"{part}: a state is not updated in place"


@pytest.mark.parametrize("name", PRIORS)
def test_every_graph_of_an_example_builds_an_engine(name: str, tmp_path: Path) -> None:
    seen = {part: check(part, model, tmp_path) for part, model in graphs(*example(name))}
    assert {"step", "row", "score"} <= set(seen) <= PARTS


@pytest.mark.parametrize("name", STOCK)
def test_every_graph_of_a_stock_model_builds_an_engine(name: str, tmp_path: Path) -> None:
    """At full width and size, with random weights."""
    torch.manual_seed(0)
    seen = {part: check(part, model, tmp_path) for part, model in graphs(*STOCK[name]())}
    assert {"step", "row", "score"} <= set(seen) <= PARTS


def test_attention_caches_are_among_the_states(tmp_path: Path) -> None:
    """Otherwise the test above would show less than it seems to."""
    (step,) = (model for part, model in graphs(*example("digits")) if part == "step")
    names = [output.name for output in step.graph.output]
    assert sum(".keys." in name for name in names) == sum(".values." in name for name in names) == 2


@pytest.fixture(scope="module")
def half_graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The digits in float16."""
    step = tmp_path_factory.mktemp("half") / "digits.onnx"
    assert export_main([str(EXAMPLES / "digits.pt"), str(step), "--precision", "float16"]) == 0
    return {"step": step, **{path.name.split(".")[1]: path for path in step.parent.glob("digits.*.onnx")}}


@pytest.mark.parametrize("part", sorted(PARTS))
def test_graphs_of_float16_build_an_engine(half_graphs: dict[str, Path], part: str, tmp_path: Path) -> None:
    """Strongly typed, so that every cast must be in the file; caches of float16 are updated in place, too."""
    model = onnx.load(str(half_graphs[part]))
    size, layers = build_engine(model.SerializeToString(), tmp_path)
    states = [value.type.tensor_type.elem_type for value in model.graph.input if value.name.startswith("state.")]
    assert size > 0 and (TensorProto.FLOAT16 in states or part not in ("step", "filtered"))
    scatters = sum(node.op_type == "TensorScatter" for node in model.graph.node)
    assert layers.count("KV_CACHE_UPDATE") == scatters, "a state is not updated in place"


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
@pytest.mark.parametrize("name", list(FIRST_STAGES))
def test_both_halves_of_every_first_stage_build_an_engine(name: str, kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_graph(FIRST_STAGES[name](), kind)
    assert build_engine(model.SerializeToString(), tmp_path)[0] > 0


def scatter_model(dtype: int = TensorProto.FLOAT, mode: str = "linear", chained: bool = False,
                  copied: bool = False) -> bytes:
    """A state [B, 2, 16, 4] that takes one position, read before and after."""
    state, update, at = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (
            ("state.x", dtype, ["B", 2, 16, 4]), ("update", dtype, ["B", 2, 1, 4]), ("at", TensorProto.INT64, ["B"]),
        )
    ]
    result = helper.make_tensor_value_info("state.x.out", dtype, ["B", 2, 16, 4])
    first = "middle" if chained or copied else "state.x.out"
    nodes = [helper.make_node("TensorScatter", ["state.x", "update", "at"], [first], axis=2, mode=mode)]
    if chained:
        nodes.append(helper.make_node("TensorScatter", [first, "update", "at"], ["state.x.out"], axis=2, mode=mode))
    if copied:
        nodes = [helper.make_node("Add", ["state.x", "state.x"], ["state.x.out"])]
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
    with pytest.raises(EngineError, match=r"model.onnx: tensorrt_rtx .* cannot build an engine \("):
        build_engine(scatter_model(**wrong), tmp_path)


def test_a_state_that_is_not_written_in_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="it would not write 'state.x' in place"):
        build_engine(scatter_model(copied=True), tmp_path)
