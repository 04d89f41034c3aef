"""Every network of the zoo through the PyTorch writer."""

from __future__ import annotations

import io

import pytest
import torch

from pixelsnail_infer.export.artifacts import build_part
from pixelsnail_infer.export.emission import vocabulary as v
from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.graph import Graph, Shape
from pixelsnail_infer.export.writing.torch_archive import archive_of, with_manifest
from pixelsnail_infer.export.writing.torch_writer import torch_module
from pixelsnail_infer.runtime.files.archive import read_archive

from ..gate import compiled
from ..networks import NETWORKS, STRIDED
from ..zoo import Network
from . import models
from .drive import Driver, Engine
from .held import faults
from .test_vocabulary import SHOW_ALL
from .torch_engines import Fx, Scripted


def driver(net: Network, engine: type[Engine]) -> Driver:
    return Driver(compiled(net, net.shapes[0]), "float64", engine, spoil=True)


@pytest.mark.parametrize("net", [pytest.param(net, id=name) for name, net in (NETWORKS | STRIDED).items()])
def test_the_modules_equal_the_network(net: Network) -> None:
    assert faults(driver(net, Fx), net, net.shapes[0], 3) == []


@pytest.mark.parametrize("name", SHOW_ALL)
def test_archives_equal_the_network_and_use_known_operators(name: str) -> None:
    """They have every operation of the vocabulary between them."""
    net = NETWORKS[name]
    assert faults(driver(net, Scripted), net, net.shapes[0], 3) == []


def parts(name: str) -> dict[str, Graph]:
    held = models.compiled(name)
    return {part: build_part(held, part) for part in ("row", "score", "filtered", "step")}


def test_weights_that_parts_share_are_there_once() -> None:
    """The filtered step has the weights of the step: with both, the tensors of the archive are as large as with one."""
    graphs = parts("attention")
    without = {part: graph for part, graph in graphs.items() if part != "filtered"}

    def tensors(chosen: dict[str, Graph]) -> int:
        reader = torch._C.PyTorchFileReader(io.BytesIO(archive_of(chosen)))
        return sum(len(reader.get_record(name)) for name in reader.get_all_records() if name.startswith("data/"))

    alone = sum(tensors({part: graph}) for part, graph in graphs.items())
    assert tensors(graphs) - tensors(without) < 500 < alone - tensors(graphs)


def test_an_archive_tells_no_place_of_the_exporter() -> None:
    raw = archive_of(parts("one_row"))
    whole = with_manifest(raw, "{}")
    assert b"debug_pkl" in raw and b"debug_pkl" not in whole and b"site-packages" not in whole
    assert read_archive(whole).sha256 == read_archive(with_manifest(raw, '{"other": 1}')).sha256


def test_shared_weights_stay_shared_when_it_is_loaded() -> None:
    loaded = torch.jit.load(io.BytesIO(archive_of(parts("one_row"))))
    steps, filtered = ({tensor.data_ptr() for tensor in getattr(loaded, part).buffers() if tensor.numel() > 50}
                       for part in ("step", "filtered"))
    assert steps and steps <= filtered


def sizes(shape: Shape) -> list[int]:
    """Of two slots, with caches that hold three positions."""
    return [size if isinstance(size, int) else 2 if size == "B" else 3 for size in shape]


def test_everything_lives_where_its_buffers_do() -> None:
    """On the meta device, which has no numbers: what came from another device would be an error."""
    for graph in parts("attention").values():
        module = torch_module(graph, {}).to("meta")
        kinds = {"float": torch.float32, "int": torch.int64, "bool": torch.bool}
        feeds = [torch.zeros(sizes(entry.shape), dtype=kinds[entry.value.kind], device="meta")
                 for entry in graph.inputs]
        results = module(*feeds)
        assert {tensor.device.type for tensor in results} == {"meta"}
        assert [list(tensor.shape) for tensor in results] == [sizes(output.shape) for output in graph.outputs]


def test_softplus_of_large_numbers() -> None:
    g = GraphBuilder("large", "float64")
    g.output("y", g.unary("softplus", g.input("x", "float", ["B"])), ["B"])
    found = torch_module(g.graph(), {})(torch.tensor([-800.0, 0.0, 30.0, 45.0, 800.0], dtype=torch.float64))[0]
    assert torch.equal(found, torch.tensor([-800.0, 0.0, 30.0, 45.0, 800.0], dtype=torch.float64).logaddexp(
        torch.zeros((), dtype=torch.float64)))
    assert {type(step.operation) for step in g.graph().steps} == {v.Unary}
