"""A graph that is not the model is refused, whatever is wrong with it, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from pixelsnail_infer.codec import CODEC_KINDS
from pixelsnail_infer.errors import GraphFileError, ModelError, PixelsnailError, VerificationError
from pixelsnail_infer.export import export_codec
from pixelsnail_infer.export.codecs import exporting as codec
from pixelsnail_infer.export.codecs import files
from pixelsnail_infer.export.codecs import verify as codec_verify
from pixelsnail_infer.export.codecs.verify import CodecReference
from pixelsnail_infer.export.proofs.verify import Check
from pixelsnail_infer.plan import Plan

from .networks import CONFIGS, STAGE, TWO, build

Mutant = Callable[[onnx.ModelProto], None]
Export = Callable[[str, Mutant], None]


def changed(model: onnx.ModelProto, like: Callable[[list[int]], bool], how: Callable[[np.ndarray], None]) -> None:
    """The first initializer whose shape is `like` that, changed in place by `how`."""
    tensor = next(tensor for tensor in model.graph.initializer if like(list(tensor.dims)))
    array = numpy_helper.to_array(tensor).copy()
    how(array)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def a_weight(model: onnx.ModelProto) -> None:
    def scale(array: np.ndarray) -> None:
        array[..., 0] *= 1.05

    changed(model, lambda shape: len(shape) == 4, scale)


def a_code(model: onnx.ModelProto) -> None:
    """Two rows of a code book exchanged."""
    def swap(array: np.ndarray) -> None:
        array[[0, 1]] = array[[1, 0]]

    changed(model, lambda shape: shape == [TWO.levels[0], TWO.embed_dim], swap)


def the_last_pixel(model: onnx.ModelProto) -> None:
    """A padding that is off by one at one side."""
    node = next(node for node in model.graph.node if node.op_type == "Conv" and list(_pads(node)) == [1, 1, 1, 1])
    next(item for item in node.attribute if item.name == "pads").ints[:] = [2, 1, 0, 1]


def the_batch(model: onnx.ModelProto) -> None:
    """Right for one image, wrong for the second: every image is the first."""
    name = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["inner" if output == name else output for output in node.output]
    model.graph.initializer.extend([numpy_helper.from_array(np.array([0]), "first")])
    nodes = [onnx.helper.make_node("Gather", ["inner", "first"], ["one"], axis=0),
             onnx.helper.make_node("Sub", ["inner", "inner"], ["none"]),
             onnx.helper.make_node("Add", ["none", "one"], [name])]
    model.graph.node.extend(nodes)


def a_nan(model: onnx.ModelProto) -> None:
    def spoil(array: np.ndarray) -> None:
        array.flat[0] = np.nan

    changed(model, lambda shape: len(shape) == 4, spoil)


def farthest_code(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "ArgMin").op_type = "ArgMax"


def _pads(node: onnx.NodeProto) -> list[int]:
    return next((list(item.ints) for item in node.attribute if item.name == "pads"), [])


@pytest.fixture(scope="module")
def graphs() -> dict[str, bytes]:
    """What PyTorch's exporter makes of the network's two halves: the same at every export."""
    return {kind: files.build_graph(build(TWO), kind).SerializeToString() for kind in CODEC_KINDS}


@pytest.fixture
def export_mutant(graphs: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Export:
    """Exports to `decoder.onnx` or `encoder.onnx`, as `kind` says, a graph that is changed on its way."""

    def export(kind: str, mutant: Mutant) -> None:
        model = onnx.load_from_string(graphs[kind])
        mutant(model)
        monkeypatch.setattr(files, "build_graph", lambda *_: model)
        export_codec(build(TWO), tmp_path / f"{kind}.onnx", kind=kind)

    return export


@pytest.mark.parametrize("mutant", [a_weight, a_code, the_last_pixel, the_batch, a_nan])
def test_a_wrong_decoder_is_refused_and_an_old_file_kept(mutant: Mutant, tmp_path: Path, export_mutant: Export) -> None:
    target = tmp_path / "decoder.onnx"
    target.write_bytes(b"old")
    with pytest.raises(VerificationError, match=r"verification failed: decode, batch [13] is .*Nothing was written"):
        export_mutant("decoder", mutant)
    assert [path.name for path in tmp_path.iterdir()] == ["decoder.onnx"] and target.read_bytes() == b"old"


@pytest.mark.parametrize("mutant", [a_weight, farthest_code, the_batch])
def test_a_wrong_encoder_is_refused(mutant: Mutant, tmp_path: Path, export_mutant: Export) -> None:
    with pytest.raises(VerificationError, match="verification failed: encode (top|bottom), batch"):
        export_mutant("encoder", mutant)
    assert list(tmp_path.iterdir()) == []


def test_the_unchanged_graph_passes(tmp_path: Path, export_mutant: Export) -> None:
    export_mutant("decoder", lambda model: None)
    assert [path.name for path in tmp_path.iterdir()] == ["decoder.onnx"]


def test_operators_of_another_domain_are_refused(tmp_path: Path, export_mutant: Export) -> None:
    def foreign(model: onnx.ModelProto) -> None:
        model.graph.node[0].domain = "com.example"

    with pytest.raises(GraphFileError, match="operators of the domain 'com.example'"):
        export_mutant("decoder", foreign)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_export_leaves_nothing(
    tmp_path: Path, export_mutant: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(codec, "verify_decoder", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_mutant("decoder", lambda model: None)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_and_a_folder_in_the_way_are_named(tmp_path: Path) -> None:
    with pytest.raises(PixelsnailError, match="there is no folder"):
        export_codec(build(TWO), tmp_path / "none" / "decoder.onnx")
    (tmp_path / "d.onnx").mkdir()
    with pytest.raises(PixelsnailError, match="not a regular file"):
        export_codec(build(TWO), tmp_path / "d.onnx")


def judged(worst: float, noise: Callable[[], float]) -> list[Check]:
    return codec_verify.judged([("decode", worst, "every pixel")], 9, noise, lambda line: None)


def test_the_limit_follows_pytorchs_own_rounding_only_where_it_must() -> None:
    (check,) = judged(9e-5, lambda: pytest.fail("the rounding was measured although nothing asks for it"))
    assert (check.limit, check.detail) == (1e-4, "every pixel")
    (check,) = judged(3e-4, lambda: 1e-4)
    assert check.limit == 4e-4 and check.detail == "every pixel; PyTorch's float32 is 1.0e-04 from its float64"


@pytest.mark.parametrize("worst, own", [(2e-4, 1e-6), (5e-4, 1e-4), (0.02, 1.0), (np.nan, 1e-3), (2e-4, np.nan)])
def test_what_rounding_does_not_explain_is_refused(worst: float, own: float) -> None:
    with pytest.raises(VerificationError, match="verification failed: decode is"):
        judged(worst, lambda: own)


def test_pytorchs_own_rounding_is_measured() -> None:
    model = build(STAGE)
    reference = CodecReference(model)
    codes = torch.from_numpy(reference.codes[0][:1])
    with torch.no_grad():
        rounded, precise = model.decode(codes), build(STAGE).double().decode(codes)
    assert reference.decoding_noise() == pytest.approx(float((rounded - precise).abs().max() / precise.std()))
    assert 0 < reference.decoding_noise() < 1e-4 and 0 < reference.encoding_noise() < 1e-4


@pytest.mark.parametrize("plan, says", [
    (Plan(schedule="wavefront"), "has no schedule 'wavefront', only 'raster'"),
    (Plan(precision="float64"), "has no precision 'float64', only 'float32'"),
])
def test_a_plan_that_codecs_lack(plan: Plan, says: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"the export of decoders and encoders {says}"):
        export_codec(build(TWO), tmp_path / "out.onnx", plan=plan)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("between", [1e-5, 1e-3, 1.0])
def test_codes_that_are_as_near_as_float32_can_tell_may_change_places(between: float) -> None:
    """Divided by the little that lies between two code vectors, rounding alone would look like a wrong vector."""
    model = build(CONFIGS["one"])
    table, random = model.tables[0], torch.Generator().manual_seed(0)
    step = torch.randn(table.shape[1], generator=random)
    table[1] = table[0] + between * table[0].norm() * step / step.norm()
    reference = CodecReference(model)
    (codes,), _ = reference._vectors(0, ())
    other = np.where(codes[0] == 0, 1, np.where(codes[0] == 1, 0, codes[0]))
    differ, far = reference.flips(0, 0, (other,))
    assert differ.any() and np.array_equal(differ, other != codes[0])
    assert (far[differ].max() == 0) == (between == 1e-5)
