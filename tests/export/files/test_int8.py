"""Products of int8: which they are, how close they come, and that an image is the same in every batch and slot."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from pixelsnail_infer.__main__ import main
from pixelsnail_infer.checkpoints import load_checkpoint
from pixelsnail_infer.errors import ModelError, PixelsnailError, VerificationError
from pixelsnail_infer.export import exporting, staging, twins
from pixelsnail_infer.export.analysis.int8_products import int8_products
from pixelsnail_infer.export.analysis.stages import Stage
from pixelsnail_infer.export.artifacts import build_part
from pixelsnail_infer.export.calibration import calibrated
from pixelsnail_infer.export.cli import main as export_main
from pixelsnail_infer.export.compile import Compiled
from pixelsnail_infer.export.emission import vocabulary as v
from pixelsnail_infer.export.exporting import export_model
from pixelsnail_infer.export.from_checkpoint import export_checkpoint
from pixelsnail_infer.export.proofs.bits import Images
from pixelsnail_infer.export.proofs.reference import Reference
from pixelsnail_infer.export.source.source_model import recognised_model
from pixelsnail_infer.export.tracing.forward import Forward
from pixelsnail_infer.export.writing.onnx_writer import write_onnx
from pixelsnail_infer.models import Prior, PriorConfig
from pixelsnail_infer.plan import INT8_PLAN, Plan
from pixelsnail_infer.runtime import Sampler, load

from ..zoo import LEVELS
from . import eager, models, strided
from .drive import Driver, OnnxRuntime
from .eager import Eager
from .torch_engines import Fx

DIGITS = Path(__file__).resolve().parents[3] / "examples" / "digits.pt"
CONFIG = PriorConfig(shape=(6, 7), levels=20, channel=32, kernel_size=3, n_block=1, n_res_block=2, res_channel=32,
                     attention=True, n_head=4, n_out_res_block=0, condition="label", n_label=3, label_hidden=(16,))


def networks() -> tuple[Reference, Compiled]:
    """A prior wide enough for int8, on random weights, with the scales of eight random images."""
    torch.manual_seed(0)
    module = Prior(CONFIG).eval().requires_grad_(False)
    specs = models.conditions(CONFIG)
    inputs = [models.InputSpec("pixels", CONFIG.shape, torch.int64, CONFIG.levels)]
    inputs += [models.InputSpec(spec.name, spec.shape, torch.int64, spec.levels) for spec in specs]
    held = models.compile_model(module, lambda net, pixels, label: net(pixels, label=label), tuple(inputs),
                                CONFIG.shape)
    reference = Reference(module, None, CONFIG.shape, held.distribution, specs)
    pixels, given = reference.inputs(8, 0)
    return reference, replace(calibrated(held, Images(pixels, given, "given"), lambda line: None), plan=INT8_PLAN)


@pytest.fixture(scope="module")
def prior() -> tuple[Reference, Compiled]:
    return networks()


def test_which_products(prior: tuple[Reference, Compiled]) -> None:
    """Of rows and steps; none that sees codes, none that gives logits, none of the label's network."""
    program = prior[1].program
    found = int8_products(program)
    linear = [node for node in program.order if node.op == "linear"]
    assert set(prior[1].scales) == set(found) < set(linear)
    assert {program.stage[node] for node in found} >= {Stage.ROW, Stage.BEFORE}
    out = {node.where.module for node in linear if node.where.module.startswith("out.")}
    assert out and not out & {node.where.module for node in found}
    assert all(program.stage[node] > Stage.PROLOGUE and node.inputs[0].source.op != "input" for node in found)


def test_scales_are_the_largest_numbers(prior: tuple[Reference, Compiled]) -> None:
    """Twice as large images of the same network would clip: no scale is larger than what was seen."""
    reference, compiled = prior
    pixels, given = reference.inputs(8, 0)
    fewer = calibrated(replace(compiled, scales={}), Images(pixels, given, "given").first(1), lambda line: None).scales
    assert all(fewer[node] <= scale for node, scale in compiled.scales.items()) and fewer != compiled.scales


@functools.cache
def drivers(engine: Any) -> Driver:
    return Driver(networks()[1], "int8", engine)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("engine", [OnnxRuntime, Eager, Fx], ids=lambda one: one.__name__)
def test_they_are_the_network_and_may_run_twice(prior: tuple[Reference, Compiled], engine: Any, batch: int) -> None:
    reference, driver = prior[0], drivers(engine)
    pixels, given = reference.inputs(batch, batch)
    expected = reference.logits(pixels, given)
    driver.begin(batch, given)
    once = driver.replay(pixels, twice=True)
    assert np.abs(once - expected).max() < 0.15 * expected.std()
    score = driver.run("score", pixels=pixels, rows=np.full(batch, 3))["logits"]
    assert np.abs(score - once).max() < 0.05 * expected.std()  # the same grids; other sums may round another way


@pytest.mark.parametrize("engine", [OnnxRuntime, Eager, Fx], ids=lambda one: one.__name__)
def test_products_of_strides(engine: Any) -> None:
    """Also what is held is computed in int8, and only where it is computed at all."""
    torch.manual_seed(0)
    module, shape = strided.Wide().eval().requires_grad_(False), (6, 8)
    inputs = (models.InputSpec("pixels", shape, torch.int64, LEVELS),)
    held = models.compile_model(module, lambda net, pixels: net(pixels), inputs, shape)
    reference = Reference(module, None, shape, held.distribution, ())
    pixels, given = reference.inputs(8, 0)
    held = replace(calibrated(held, Images(pixels, given, "given"), lambda line: None), plan=INT8_PLAN)
    assert {node.stride for node in held.scales} >= {(2, 2)}
    driver, expected = Driver(held, "int8", engine), reference.logits(pixels, given)
    driver.begin(8, given)
    once = driver.replay(pixels, twice=True)
    assert np.abs(once - expected).max() < 0.15 * expected.std()
    score = driver.run("score", pixels=pixels, rows=np.full(8, 3))["logits"]
    assert np.abs(score - once).max() < 0.05 * expected.std()


def test_engines_join_products_as_they_were_decided(prior: tuple[Reference, Compiled]) -> None:
    """What ONNX Runtime makes of the pairs is what the operations say, one by one."""
    pixels, given = prior[0].inputs(3, 5)
    seen = []
    for engine in (OnnxRuntime, Eager, Fx):
        driver = drivers(engine)
        driver.begin(3, given)
        seen.append(driver.replay(pixels))
    assert max(np.abs(seen[0] - other).mean() for other in seen[1:]) < 2e-3 * seen[1].std()


@pytest.mark.parametrize("operation", [v.OnGrid, v.GridConstant])
def test_a_writer_that_spells_them_otherwise_is_seen(prior: tuple[Reference, Compiled], operation: Any,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    right = eager.HANDLERS[operation]
    monkeypatch.setitem(eager.HANDLERS, operation, lambda op, at: right(op, at) * 1.01)
    pixels, given = prior[0].inputs(1, 5)
    seen = []
    for driver in (Driver(prior[1], "int8", Eager), drivers(OnnxRuntime)):
        driver.begin(1, given)
        seen.append(driver.replay(pixels))
    assert np.abs(seen[0] - seen[1]).mean() > 2e-3 * seen[1].std()


def test_products_of_int8_have_weights_of_int8(prior: tuple[Reference, Compiled]) -> None:
    for part in ("step", "row", "filtered", "score"):
        steps = build_part(prior[1], part).steps
        made = {result: step.operation for step in steps for result in step.results}
        products = [op for op in made.values() if isinstance(op, (v.MatMul, v.Linear))]
        inner = [op for op in products if isinstance(made.get(list(op.operands())[1]), v.GridConstant)]
        assert inner and all(isinstance(made[list(op.operands())[0]], v.OnGrid) for op in inner)
        assert not [op for op in made.values() if isinstance(op, v.Convolve)] or part == "score"
    held = [op for op in made.values() if isinstance(op, v.GridConstant) and op.numbers.ndim == 2]
    assert all(op.numbers.dtype == np.int8 and np.abs(op.numbers).max() <= 63 for op in held)


def patches() -> Compiled:
    """The example of images, whose products add up with others in many ways."""
    source = recognised_model(load_checkpoint(DIGITS.with_name("patches.pt")), False)
    reference = Reference(source.module, None, source.shape, source.distribution, source.conditions)
    held = staging._compiled(source.module, Forward(None), reference, Plan(), wave=False)
    pixels, given = reference.inputs(2, 0)
    return replace(calibrated(held, Images(pixels, given, "given"), lambda line: None), plan=INT8_PLAN)


@pytest.mark.parametrize("network", ["prior", "patches"])
def test_the_engine_joins_every_product(network: str, prior: tuple[Reference, Compiled], tmp_path: Path) -> None:
    """One that it does not join is computed in float32, from weights that are made anew at every run: far slower."""
    compiled = prior[1] if network == "prior" else patches()
    for part in ("step", "row"):
        options, path = ort.SessionOptions(), tmp_path / f"{part}.onnx"
        options.optimized_model_filepath, options.log_severity_level = str(path), 3
        model = write_onnx(build_part(compiled, part), {})
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        kinds = [node.op_type for node in onnx.load(path).graph.node]
        assert "DequantizeLinear" not in kinds, part
        assert kinds.count("QGemm") + kinds.count("MatMulIntegerToFloat") > 3


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "digits.onnx"
    assert export_main([str(DIGITS), str(path), "--precision", "int8"]) == 0
    return path


def test_an_image_is_the_same_in_every_batch_and_slot(digits: Path) -> None:
    with load(digits, threads=1) as sampler:
        whole = sampler.sample(7, seed=3, label=np.arange(7), top_p=[1, 0.5, 1, 1, 0.9, 1, 1])
        for size in (1, 2, 5):
            some = sampler.sample(7, seed=3, label=np.arange(7), top_p=[1, 0.5, 1, 1, 0.9, 1, 1], max_batch=size)
            assert np.array_equal(some, whole)
        logits = sampler.replay(whole, label=np.arange(7))
        assert np.array_equal(sampler.replay(whole, label=np.arange(7), max_batch=1), logits)


def test_the_manifest_says_what_it_costs(digits: Path, digits_graphs: dict[str, Path],
                                         capsys: pytest.CaptureFixture[str]) -> None:
    with load(digits, threads=1) as sampler:
        manifest, images = sampler.manifest, sampler.sample(4, label=[1, 2, 3, 4])
    bits = manifest.bits_per_dim
    assert manifest.precision == "int8" and bits is not None and bits.change < 0.002 and bits.limit == 0.01
    assert {spec.dtype for spec in manifest.states} == {"float32"}
    assert digits.stat().st_size < 0.45 * digits_graphs["step"].stat().st_size
    with load(digits_graphs["step"], threads=1) as plain:
        near = plain.bits_per_dim(images, label=[1, 2, 3, 4])
    with load(digits, threads=1) as sampler:
        assert np.allclose(sampler.bits_per_dim(images, label=[1, 2, 3, 4]), near, rtol=0.03)
    assert main(["info", str(digits)]) == 0 and "int8" in capsys.readouterr().out
    assert main(["verify", str(digits), str(DIGITS)]) == 0


def test_given_images_set_the_scales(tmp_path: Path, digits_graphs: dict[str, Path]) -> None:
    with load(digits_graphs["step"], threads=1) as plain:
        codes = plain.sample(6, seed=8, label=np.arange(6))
    np.savez(tmp_path / "codes.npz", codes=codes, label=np.arange(6))
    lines: list[str] = []
    done = export_checkpoint(DIGITS, tmp_path / "d.onnx", precision="int8", calibrate=str(tmp_path / "codes.npz"),
                             codes=str(tmp_path / "codes.npz"), say=lines.append)
    assert any("over 6 images" in line for line in lines)
    bits = done.manifest.bits_per_dim  # type: ignore[union-attr]
    assert bits is not None and bits.codes == "given" and bits.images == 6


def test_other_images_calibrate_than_those_that_show_the_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On its own images no number is beyond the largest, so that they would flatter it."""
    seen: list[Images] = []
    right = (exporting.calibrated, twins.measured_bits)

    def calibrate(compiled: Compiled, images: Images, say: Any) -> Compiled:
        seen.append(images)
        return right[0](compiled, images, say)

    def measure(sampler: Any, reference: Any, images: Images, *given: Any) -> Any:
        seen.append(images)
        return right[1](sampler, reference, images, *given)

    monkeypatch.setattr(exporting, "calibrated", calibrate)
    monkeypatch.setattr(twins, "measured_bits", measure)
    export_checkpoint(DIGITS, tmp_path / "d.onnx", precision="int8")
    calibrating, measured = (one.pixels for one in seen)
    assert len(calibrating) == 32 and not (calibrating[:, None] == measured).all((2, 3)).any()


def test_what_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=r"bits per dimension change by .*at most 0.00% were allowed"):
        export_checkpoint(DIGITS, tmp_path / "d.onnx", precision="int8", max_bpd_change=0)
    with pytest.raises(ModelError, match="the format torchscript has no precision 'int8': .*; choose --format onnx"):
        export_checkpoint(DIGITS, tmp_path / "d.pt", precision="int8", format="torchscript")
    with pytest.raises(PixelsnailError, match="--calibrate is for --precision int8"):
        export_checkpoint(DIGITS, tmp_path / "d.onnx", calibrate="codes.npy")
    with pytest.raises(ModelError, match="calibrate is for int8"):
        export_model(torch.nn.Identity(), tmp_path / "d.onnx", levels=4, shape=(2, 2), calibrate="codes.npy",
                     plan=Plan(precision="float16"))
    assert not list(tmp_path.iterdir())


def test_the_sampler_of_int8_is_not_that_of_float32(digits: Path, digits_graphs: dict[str, Path]) -> None:
    """Otherwise the tests above would show nothing."""
    def logits(path: Path) -> Any:
        with load(path, threads=1) as sampler:
            assert isinstance(sampler, Sampler)
            return sampler.replay(np.zeros((1, 8, 8), np.int64), label=0)

    assert np.abs(logits(digits) - logits(digits_graphs["step"])).max() > 1e-3
