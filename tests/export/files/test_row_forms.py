"""Row graphs in Winograd's form: the same numbers at every position, in every engine, and where exports use it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pixelsnail_infer.errors import ModelError, PixelsnailError, VerificationError
from pixelsnail_infer.export.analysis import row_forms
from pixelsnail_infer.export.analysis.row_forms import WINOGRAD, RowProduct, row_products
from pixelsnail_infer.export.analysis.winograd import Winograd
from pixelsnail_infer.export.artifacts import build_part
from pixelsnail_infer.export.compile import Compiled
from pixelsnail_infer.export.emission.graph import Graph
from pixelsnail_infer.export.emission.vocabulary import MatMul
from pixelsnail_infer.export.exporting import export_model
from pixelsnail_infer.export.from_checkpoint import export_checkpoint
from pixelsnail_infer.plan import Plan
from pixelsnail_infer.runtime import load

from ..gate import compiled as network
from ..networks import NETWORKS, STRIDED
from . import models
from .drive import Driver, Engine, OnnxRuntime
from .eager import Eager
from .held import faults
from .torch_engines import Fx, Scripted

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
EXACT = 1e-8
NAMES = ("wide_kernel", "tall", "no_attention", "label", "codes_attention", "one_row")


def in_winograd(compiled: Compiled) -> Compiled:
    return replace(compiled, row_form=WINOGRAD)


@functools.cache
def held(name: str) -> Compiled:
    return in_winograd(models.compiled(name))


def forms(compiled: Compiled) -> list[tuple[RowProduct, Winograd]]:
    return [(one, form) for one in row_products(compiled.program) if (form := one.form(WINOGRAD)) is not None]


def products(graph: Graph) -> int:
    return sum(isinstance(step.operation, MatMul) for step in graph.steps)


@pytest.mark.parametrize("engine", [OnnxRuntime, Scripted])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_priors_replay_exactly(name: str, batch: int, engine: Callable[[Graph], Engine]) -> None:
    """Kernels of two rows above and more, lines that tiles do not fill, and lines shorter than a tile."""
    codes, given = models.reference(name).inputs(batch, batch)
    expected = models.reference(name).logits(codes, given, torch.float64)
    driver = Driver(held(name), "float64", engine)
    driver.begin(batch, given)
    assert np.abs(driver.replay(codes, twice=True) - expected).max() < EXACT


def test_the_priors_have_all_shapes() -> None:
    found = [(one, form) for name in NAMES for one, form in forms(held(name))]
    assert {form.taps for _, form in found} >= {3, 5}
    assert {len(one.rows) for one, _ in found} >= {2, 4}
    assert any(form.width % form.results for _, form in found) and any(form.width < 4 for _, form in found)


def test_networks_of_the_zoo() -> None:
    """Strictly, with what must not be read spoiled: also rows that the graph computes itself, guards and borders."""
    own = guarded = bordered = checked = strided = 0
    for net in (NETWORKS | STRIDED).values():
        compiled = in_winograd(network(net, net.shapes[0]))
        if not (found := forms(compiled)):
            continue
        driver = Driver(compiled, "float64", Eager, spoil=True)
        assert not faults(driver, net, net.shapes[0], 3), net.name
        program = compiled.program
        own += any(one.rows == [0] for one, _ in found)
        guarded += any(one.node in program.guard or one.node.inputs[0].source in program.guard for one, _ in found)
        bordered += any(bool((program.border.get(one.node.inputs[0].source, torch.zeros(1)) != 0).any())
                        for one, _ in found)
        strided += any(one.node.stride[1] > 1 for one, _ in found)
        checked += 1
    assert checked > 15 and own and guarded and bordered and strided, (checked, own, guarded, bordered, strided)


@pytest.mark.parametrize("engine", [OnnxRuntime, Fx])
def test_a_wrong_transform_shows(engine: Callable[[Graph], Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    weights = RowProduct.weights
    monkeypatch.setattr(RowProduct, "weights", lambda one, form: weights(one, form) * 1.001)
    codes, given = models.reference("label").inputs(1, 1)
    expected = models.reference("label").logits(codes, given, torch.float64)
    driver = Driver(held("label"), "float64", engine)
    driver.begin(1, given)
    assert np.abs(driver.replay(codes) - expected).max() > 1e-4


def test_a_product_for_each_point() -> None:
    """And two for the transforms, in the place of each that has the form."""
    compiled = models.compiled("no_attention")
    plain, transformed = (products(build_part(one, "row")) for one in (compiled, in_winograd(compiled)))
    assert transformed - plain == sum(form.points + 1 for _, form in forms(compiled)) > 0


def test_auto_leaves_small_networks_as_they_are() -> None:
    compiled = models.compiled("no_attention")
    assert build_part(replace(compiled, row_form="auto"), "row") == build_part(compiled, "row")


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8"])
def test_less_than_float32_is_plain(precision: str) -> None:
    compiled = replace(models.compiled("no_attention"), plan=Plan(precision=precision))
    assert build_part(in_winograd(compiled), "row") == build_part(compiled, "row")


def exported(target: Path, **options: Any) -> tuple[Any, list[str]]:
    """The small prior without attention, exported; and what was said."""
    config, said = models.CONFIGS["no_attention"], list[str]()
    done = export_model(models.prior("no_attention"), target, levels=config.levels, shape=config.shape,
                        say=said.append, **options)
    return done, said


def test_an_export_says_which_layers_take_it(tmp_path: Path) -> None:
    done, said = exported(tmp_path / "out.onnx", row_form="winograd", format="both")
    (note,) = [note for note in done.manifest.notes if "Winograd" in note]
    count = len(forms(models.compiled("no_attention")))
    assert note.startswith(f"Winograd's form along the row in {count} of {count} products of the row graph: ")
    before, after = (int(word.rstrip(".").replace(",", "")) for word in note.split() if "," in word)
    assert note in said and after < before
    layers = [line for line in said if line.startswith("F(")]
    assert layers and "blocks.0.resblocks.0.conv1.conv.conv" in layers[0]


def test_draws_are_those_of_the_plain_form(tmp_path: Path) -> None:
    images = []
    for form in ("plain", "winograd"):
        exported(tmp_path / f"{form}.onnx", row_form=form)
        with load(tmp_path / f"{form}.onnx") as sampler:
            images.append(sampler.sample(4, seed=3))
    assert np.array_equal(*images)


def test_auto_is_plain_where_the_proofs_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PER_NUMBER", "PER_WEIGHT"):
        monkeypatch.setattr(row_forms, name, 0)
    weights = RowProduct.weights
    monkeypatch.setattr(RowProduct, "weights", lambda one, form: weights(one, form) * 1.001)
    done, said = exported(tmp_path / "out.onnx")
    assert not any("Winograd" in note for note in done.manifest.notes)
    assert any(line.startswith("without Winograd's form, because with it: verification failed") for line in said)
    with pytest.raises(VerificationError, match="replay"):
        exported(tmp_path / "other.onnx", row_form="winograd")
    assert not (tmp_path / "other.onnx").exists()


@pytest.mark.parametrize(("options", "says"), [
    ({"row_form": "fast"}, "row_form is 'fast', expected 'auto', 'plain' or 'winograd'"),
    ({"row_form": "winograd", "plan": Plan(precision="int8")}, "row form 'winograd' is for float32, and int8 would"),
    ({"row_form": "winograd", "plan": Plan(precision="float16")}, "row form 'winograd' is for float32, and float16"),
])
def test_refused_by_name(options: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=says):
        exported(tmp_path / "out.onnx", **options)


def test_a_decoder_has_no_rows(tmp_path: Path) -> None:
    with pytest.raises(PixelsnailError, match="--row-form has no meaning for a vq-vae, which has no row graph"):
        export_checkpoint(EXAMPLES / "vqvae.pt", tmp_path / "out.onnx", row_form="plain")


@pytest.mark.parametrize("name", ["digits", *(pytest.param(name, marks=pytest.mark.full) for name in
                                              ("patches", "pixelcnn_digits", "vqvae_top", "vqvae_bottom"))])
def test_trained_priors_pass_their_proofs(name: str, tmp_path: Path) -> None:
    done = export_checkpoint(EXAMPLES / f"{name}.pt", tmp_path / "out.onnx", row_form="winograd", format="both")
    assert any("Winograd" in note for note in done.manifest.notes)
    assert all(check.passed for check in done.checks)
