"""The export: what is written and proven, and that a wrong file is not kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from pixelsnail_infer.denoiser import DenoiserManifest
from pixelsnail_infer.errors import CheckpointError, ManifestError, ModelError, PixelsnailError, VerificationError
from pixelsnail_infer.export.denoisers import exporting, forms, parts
from pixelsnail_infer.export.denoisers import verify as proofs
from pixelsnail_infer.export.denoisers.exporting import export_denoiser
from pixelsnail_infer.export.denoisers.files import DenoiserGraphs
from pixelsnail_infer.export.denoisers.reference import DenoiserReference
from pixelsnail_infer.export.from_checkpoint import export_checkpoint, verify_export
from pixelsnail_infer.models.unet import UNet
from pixelsnail_infer.models.unet_layers import Upsample
from pixelsnail_infer.runtime import load
from pixelsnail_infer.runtime.denoising import schedule

from .networks import network


def test_the_manifest_says_what_was_exported_and_proven(exported: Path) -> None:
    with load(exported) as denoiser:
        manifest = denoiser.manifest
    assert manifest == DenoiserManifest.from_json(manifest.to_json())
    assert [spec.name for spec in manifest.conditions] == ["label", "low_res"]
    assert manifest.diffusion == network().config.diffusion and manifest.projections == network().told
    assert {"network, batch 1", "network, batch 3", "DDPM chain", "DDIM, eta 0 chain"} <= manifest.verification.keys()
    assert len(manifest.verification) == 10
    assert sorted(path.name for path in exported.parent.iterdir()) == sorted(
        ["ema_0.9999_500000.pt", "unet.onnx", "unet.times.onnx"])


def test_enlarging_in_four_kernels_is_the_layer() -> None:
    torch.manual_seed(0)
    layer, x = Upsample(32).double(), torch.randn(2, 32, 3, 5, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(forms.SubpixelUpsample(layer)(x), layer(x), atol=1e-14)


@pytest.mark.parametrize("scale_shift", [True, False])
def test_the_form_of_graphs_is_the_network(scale_shift: bool) -> None:
    module = network(scale_shift=scale_shift).double()
    torch.manual_seed(0)
    for parameter in module.parameters():
        parameter += 0.1 * torch.randn_like(parameter)  # norms scale and shift now
    x, low_res = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    given = torch.tensor([3.0, 999.0], dtype=torch.float64), torch.tensor([0, 2]), low_res
    assert torch.allclose(forms.graph_form(module)(x, *given), module(x, *given), atol=1e-12)


def test_verifying_again_takes_what_the_manifest_says(exported: Path, checkpoint: Path, tmp_path: Path) -> None:
    checks = verify_export(exported, checkpoint)
    assert len(checks) == 10 and all(check.passed for check in checks)
    with pytest.raises(VerificationError, match="another diffusion"):
        verify_export(exported, checkpoint, noise_schedule="linear")
    state = torch.load(checkpoint)
    state["out.2.bias"] += 1e-3
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(VerificationError, match="another checkpoint"):
        verify_export(exported, tmp_path / "other.pt")


def test_a_wrong_sum_is_found_before_anything_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = schedule.Schedule.ddim

    def wrong(self: schedule.Schedule, eta: float = 0.0, clip: bool = True) -> Any:
        found = table(self, eta, clip)
        found[:, 4] *= 1 + 1e-7
        return found

    monkeypatch.setattr(schedule.Schedule, "ddim", wrong)
    with pytest.raises(VerificationError, match="DDIM"):
        export_denoiser(network(), tmp_path / "unet.onnx")
    assert list(tmp_path.iterdir()) == []


def test_files_of_another_network_are_found_and_not_left(exported: Path, monkeypatch: pytest.MonkeyPatch,
                                                         tmp_path: Path) -> None:
    """The graphs that are written are those of the first export, whose weights are others."""
    class Graphs(DenoiserGraphs):
        def __init__(self, module: UNet) -> None:
            self._step = onnx.load(str(exported))
            self._times = exported.with_name("unet.times.onnx").read_bytes()

    module = network()
    module.output_blocks[0][0].out_layers[3].weight[0] *= 1.1
    monkeypatch.setitem(exporting.DENOISER_FORMATS, "onnx", Graphs)  # type: ignore[arg-type]
    heard: list[str] = []
    with pytest.raises(VerificationError, match="network"):
        export_denoiser(module, tmp_path / "unet.onnx", say=heard.append)
    assert any("batch 3" in line for line in heard) and list(tmp_path.iterdir()) == []


def test_a_wrong_chain_is_found(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise of another stream than the reference's."""
    reference, usual = DenoiserReference(network()), DenoiserReference._noise
    monkeypatch.setattr(DenoiserReference, "_noise", lambda self, keys, step: usual(self, keys, step + (step == 20)))
    with pytest.raises(VerificationError, match="chain"):
        proofs.verify_denoiser(exported, reference, lambda line: None)


def test_what_denoisers_do_not_have_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    given = {"shape": "8x8", "low_res": "4x4", "n_head": 2, "diffusion_steps": 40, "noise_schedule": "cosine"}
    for options, name, error in (({"precision": "int8"}, "a.onnx", ModelError),
                                 ({"format": "both"}, "a.onnx", ModelError),
                                 ({"format": "torchscript"}, "a.onnx", PixelsnailError),
                                 ({"part": "decoder"}, "a.onnx", PixelsnailError),
                                 ({"n_head": 5}, "a.onnx", CheckpointError)):
        with pytest.raises(error):
            export_checkpoint(checkpoint, tmp_path / name, **{**given, **options})
    with pytest.raises(ModelError, match="UNet"):
        export_denoiser(torch.nn.Linear(1, 1), tmp_path / "a.onnx")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("old, new", [
    ('"kind": "denoiser"', '"kind": "prior"'), ('"predict": "eps"', '"predict": "v"'), ('"steps": 40', '"steps": 0'),
    ('"name": "low_res"', '"name": "pose"'), ('"projections"', '"projection"'), ('"times": {', '"row": {')])
def test_a_broken_manifest_is_refused(exported: Path, old: str, new: str) -> None:
    with load(exported) as denoiser:
        text = denoiser.manifest.to_json()
    assert old in text
    with pytest.raises(ManifestError):
        DenoiserManifest.from_json(new.join(text.rsplit(old, 1)))  # the configuration of the model comes before


def test_both_parts_name_their_tensors() -> None:
    module = network()
    assert parts.part_of(module, "times").inputs == ("time", "label")
    assert parts.part_of(module, "step").inputs == ("x", "noise", "coefficients", "projections", "low_res")
    fixed = replace(module.config.diffusion, variance="fixed-small")
    assert parts.part_of(network(learn_sigma=False, low_res=None, diffusion=fixed), "step").outputs == ("x_prev", "x0")

