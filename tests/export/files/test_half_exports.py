"""Exports of half precision: files and manifests, what they cost, and what is refused and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from pixelsnail_infer.__main__ import main
from pixelsnail_infer.errors import ModelError, PixelsnailError, RequestError, VerificationError
from pixelsnail_infer.export import twins
from pixelsnail_infer.export.cli import main as export_main
from pixelsnail_infer.export.exporting import export_model
from pixelsnail_infer.export.from_checkpoint import export_checkpoint
from pixelsnail_infer.export.proofs import verify
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.plan import HALF_PLANS, Plan
from pixelsnail_infer.runtime import load

from . import models
from .test_digits import GOLDEN

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
DIGITS = str(EXAMPLES / "digits.pt")
WAYS = {"float16, onnx": ("float16", "onnx", ".onnx"), "float16": ("float16", "torchscript", ".pt"),
        "bfloat16": ("bfloat16", "torchscript", ".pt")}
Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module", params=WAYS)
def digits(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The precision, and the file to load, made by the command."""
    precision, format, suffix = WAYS[request.param]
    if precision == "bfloat16":
        return precision, request.getfixturevalue("digits_bfloat16")
    path = tmp_path_factory.mktemp("half") / f"digits{suffix}"
    assert export_main([DIGITS, str(path), "--precision", precision, "--format", format]) == 0
    return precision, path


def sizes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.iterdir())


def test_the_files_are_half_as_large(digits: tuple[str, Path], digits_archive: Path, digits_graphs: dict[str, Path]
                                     ) -> None:
    """But for the programs, which are a fifth of these small files."""
    plain = digits_archive if digits[1].suffix == ".pt" else digits_graphs["step"]
    assert 0.45 * sizes(plain) < sizes(digits[1]) < 0.6 * sizes(plain)


def test_the_manifest_says_what_half_precision_costs(digits: tuple[str, Path], capsys: pytest.CaptureFixture[str]
                                                     ) -> None:
    precision, path = digits
    with load(path, threads=1) as sampler:
        manifest = sampler.manifest
    assert manifest == Manifest.from_json(manifest.to_json()) and manifest.precision == precision
    bits = manifest.bits_per_dim
    assert bits is not None and bits.images == 64 and bits.codes == "drawn" and bits.limit == 0.01
    assert bits.change == abs(bits.exported - bits.reference) / bits.reference < 1e-3 < bits.reference
    assert {spec.dtype for spec in manifest.states if spec.role != "pixels"} == {precision}
    assert {spec.dtype for spec in manifest.states if spec.role == "pixels"} == {"float32"}
    assert manifest.verification["the same in float32"]["limit"] == 1e-4
    assert manifest.verification["replay, batch 3"]["limit"] == verify.LIMITS[precision]
    assert ("the same, all rounded" in manifest.verification) == (path.suffix == ".onnx")
    assert main(["info", str(path)]) == 0
    told = capsys.readouterr().out
    assert f"precision {precision}" in told and "in float32, a change of 0.0" in told and f", {precision} " in told


def test_verify_proves_it_again(digits: tuple[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(digits[1]), DIGITS]) == 0
    assert "bits per dimension" in capsys.readouterr().out


def test_it_draws_scores_and_goes_on_after_known_rows(digits: tuple[str, Path]) -> None:
    """An image does not depend on its batch; known rows are filled in by the score graph, filters take their turn."""
    golden = np.load(GOLDEN).astype(np.int64)
    mask = np.arange(8)[:, None].repeat(8, 1) < 5
    with load(digits[1], threads=1) as sampler:
        for how in ({}, {"known": golden[:6], "known_mask": mask}, {"top_p": 0.8}):
            whole, parts = (sampler.sample(6, label=range(6), max_batch=size, **how) for size in (6, 4))
            assert (whole != parts).mean() < 0.02  # near-ties may flip: products of other batches are other sums
            assert np.array_equal(whole, sampler.sample(6, label=range(6), **how))
        assert np.isfinite(sampler.score(golden[:6], label=range(6))).all()
        sampler.replay(golden[:2], label=range(2), twice=True)


def test_weights_and_caches_are_of_half_precision_in_the_files(tmp_path: Path) -> None:
    exported = export(tmp_path / "out.onnx", Plan(precision="float16"))
    for path in exported.files:
        graph = onnx.load(str(path)).graph
        large = {tensor.data_type for tensor in graph.initializer if len(tensor.dims) > 1 and np.prod(tensor.dims) > 99}
        assert TensorProto.FLOAT16 in large
        assert sum(node.op_type == "MatMul" for node in graph.node) or path.name == "out.score.onnx"
    step = onnx.load(str(exported.files[0])).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*step.input, *step.output)}
    assert kinds["logits"] == kinds["noise"] == TensorProto.FLOAT and kinds["row_result"] == TensorProto.FLOAT16


def export(target: Path, plan: Plan, module: torch.nn.Module | None = None, shape: tuple[int, int] | None = None,
           **how: Any) -> Any:
    """The small prior with attention, or another module of 7 codes."""
    how.setdefault("format", "onnx" if target.suffix == ".onnx" else "torchscript")
    return export_model(module or models.prior("attention"), target, levels=7,
                        shape=shape or models.CONFIGS["attention"].shape, plan=plan, **how)


class Loud(torch.nn.Module):
    """Activations `loud` times as large between two layers, which `offset` is added to and taken away after them."""

    def __init__(self, loud: float, offset: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.mid, self.out = torch.nn.Embedding(7, 8), torch.nn.Conv2d(8, 8, 1), torch.nn.Conv2d(8, 7, 1)
        self.offset = offset
        for parameter in self.parameters():
            torch.nn.init.normal_(parameter)
        with torch.no_grad():
            self.mid.weight.sign_().mul_(loud)  # so that sums of eight are larger than any weight
            self.mid.bias.zero_()
            self.out.weight /= loud

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        left = torch.nn.functional.pad(self.first(pixels).permute(0, 3, 1, 2), [1, 0, 0, 0])[..., :-1]
        return self.out(torch.relu(self.mid(torch.tanh(left))) + self.offset - self.offset)


@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
def test_an_overflow_is_seen_and_named(suffix: str, tmp_path: Path) -> None:
    """It happens between two nodes, where ONNX Runtime does not round: PyTorch's twin shows it."""
    with pytest.raises(VerificationError, match=r"is (nan|inf).*65504 are infinite in float16.*bfloat16 or float32"):
        export(tmp_path / f"out{suffix}", Plan(precision="float16"), Loud(5e4), (3, 4))
    assert list(tmp_path.iterdir()) == []
    export(tmp_path / "out.pt", Plan(precision="bfloat16"), Loud(5e4), (3, 4))


def test_a_weight_beyond_float16_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a weight of .*, which float16 cannot hold; choose another --precision"):
        export(tmp_path / "out.onnx", Plan(precision="float16"), Loud(1e5), (3, 4))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("plan", HALF_PLANS, ids=str)
def test_a_network_that_needs_more_digits_is_refused(plan: Plan, tmp_path: Path, monkeypatch: Patch) -> None:
    """By its logits; and were these not compared, by its bits per dimension."""
    coarse = Loud(1.0, 2.5e3)
    with pytest.raises(VerificationError, match=r"(replay|score), batch 1 is .*; numbers .*choose --precision"):
        export(tmp_path / "out.pt", plan, coarse, (3, 4))
    monkeypatch.setattr(verify, "LIMITS", dict.fromkeys(verify.LIMITS, 1e9))
    says = r"bits per dimension change by [\d.]+% .*on 64 drawn images\), at most 1"
    with pytest.raises(VerificationError, match=says):
        export(tmp_path / "out.pt", plan, coarse, (3, 4))
    assert list(tmp_path.iterdir()) == []
    bits = export(tmp_path / "out.pt", plan, coarse, (3, 4), max_bpd_change=1e4).manifest.bits_per_dim
    assert bits.change > 0.01 and bits.limit == 100


def test_a_mistake_within_the_limits_is_seen_in_the_twin(tmp_path: Path, monkeypatch: Patch) -> None:
    """The proofs of half precision alone would let it pass."""
    module = models.prior("attention")
    whole = twins.Artifacts.write

    def write(self: Any, manifest: Manifest) -> Manifest:
        for node in self.compiled.program.order:
            if node.op == "linear" and node.attrs["bias"] is not None:
                node.attrs["bias"] = node.attrs["bias"] * 1.001
        return whole(self, manifest)

    monkeypatch.setattr(twins.Artifacts, "write", write)
    with pytest.raises(VerificationError, match="please report the model"):
        export(tmp_path / "out.pt", Plan(precision="bfloat16"), module)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(verify, "CLOSE", 0.1)
    export(tmp_path / "out.pt", Plan(precision="bfloat16"), module)


def test_given_codes_are_measured(tmp_path: Path) -> None:
    golden = np.load(GOLDEN)
    np.savez(tmp_path / "real.npz", codes=golden, label=np.arange(20) % 10)
    output = tmp_path / "out.onnx"
    done = export_checkpoint(DIGITS, output, precision="float16", codes=tmp_path / "real.npz", max_bpd_change=0.5)
    bits = done.manifest.bits_per_dim
    assert (bits.images, bits.codes, bits.limit) == (20, "given", 0.005)
    with load(output, threads=1) as sampler:
        assert bits.exported == pytest.approx(sampler.bits_per_dim(golden, label=np.arange(20) % 10).mean(), rel=1e-6)
    codes = np.random.default_rng(0).integers(0, 7, (3, *models.CONFIGS["attention"].shape))
    np.save(tmp_path / "codes.npy", codes)
    assert export(tmp_path / "a.pt", HALF_PLANS[0], codes=tmp_path / "codes.npy").manifest.bits_per_dim.images == 3


@pytest.mark.parametrize(("held", "says"), [
    ({"codes.npy": {}}, "the model has conditions; give a .npz, made by numpy.savez of the arrays codes and label"),
    ({"codes.npz": {"label": np.zeros(20, int)}}, "which holds label; one array must be called codes"),
    ({"codes.npz": {"codes": np.load(GOLDEN)}}, "The condition 'label' is missing"),
    ({"codes.npz": {"codes": np.load(GOLDEN) + 9, "label": 1}}, "codes"),
    ({"codes.npz": None}, "cannot be read as an archive of arrays"),
], ids=["no conditions", "no codes", "no label", "codes out of range", "no archive"])
def test_codes_are_checked_before_anything_is_done(held: dict[str, Any], says: str, tmp_path: Path) -> None:
    ((name, arrays),) = held.items()
    if arrays is None:
        (tmp_path / name).write_bytes(b"PK")
    elif name.endswith(".npz"):
        np.savez(tmp_path / name, **arrays)
    else:
        np.save(tmp_path / name, np.load(GOLDEN))
    said: list[str] = []
    with pytest.raises(RequestError, match=says):
        export_checkpoint(DIGITS, tmp_path / "out.onnx", precision="float16", codes=tmp_path / name, say=said.append)
    assert said == [f"reading {DIGITS}"]


@pytest.mark.parametrize(("options", "says"), [
    (["--precision", "bfloat16"], "the format onnx has no precision 'bfloat16': ONNX Runtime runs no bfloat16"),
    (["--codes", "real.npy"], "--codes is about what less precision costs: it has no meaning for --precision float32"),
    (["--max-bpd-change", "2"], "--max-bpd-change is about what less precision costs: it has no meaning"),
    (["--precision", "float16", "--max-bpd-change", "-1"], "is '-1', expected a percentage, 0 or more, such as 0.5"),
])
def test_options_that_do_not_go_together(options: list[str], says: str, tmp_path: Path,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    assert export_main([DIGITS, str(tmp_path / "out.onnx"), *options]) == 1
    assert says in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_codecs_are_float32(tmp_path: Path) -> None:
    with pytest.raises(PixelsnailError, match="the export of decoders and encoders has no precision 'float16', only"):
        export_checkpoint(EXAMPLES / "vqvae.pt", tmp_path / "out.onnx", precision="float16")
    with pytest.raises(ModelError, match="codes are for measuring what less than float32 costs"):
        export(tmp_path / "out.onnx", Plan(), codes="real.npy")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.full
def test_images_of_channels(tmp_path: Path) -> None:
    """Pixels and their state stay float32: bfloat16 has not all of the 256 levels."""
    done = export_checkpoint(EXAMPLES / "patches.pt", tmp_path / "out.pt", precision="bfloat16", format="torchscript")
    dtypes = {("of pixels" if spec.shape[2] <= 4 else "of features", spec.dtype) for spec in done.manifest.states}
    assert dtypes == {("of pixels", "float32"), ("of features", "bfloat16")}
    assert done.manifest.bits_per_dim.images == 16 and done.manifest.bits_per_dim.change < 0.005
