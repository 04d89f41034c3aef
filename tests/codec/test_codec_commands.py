"""The commands on VQ-VAEs and first stages: export either half, describe it, prove it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from pixelsnail_infer.__main__ import main as pixelsnail_infer
from pixelsnail_infer.export.cli import main as export_model
from pixelsnail_infer.runtime import load_decoder, load_encoder

from .networks import CONFIGS, STAGE, TWO, build

ROOT = Path(__file__).resolve().parents[2]
SIZE = f"--shape={TWO.shape[0]}x{TWO.shape[1]}"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file of one of the small networks."""
    folder = tmp_path_factory.mktemp("checkpoints")

    def write(name: str) -> Path:
        path = folder / f"{name}.pt"
        if not path.exists():
            torch.save({"state_dict": build(CONFIGS[name]).state_dict()}, path)
        return path

    return write


@pytest.fixture(scope="module")
def exported(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The decoder of the network "one", exported by the command; read only."""
    target = tmp_path_factory.mktemp("exported") / "d.onnx"
    assert export_model([str(checkpoint("one")), str(target), SIZE, "-q"]) == 0
    return target


def test_both_halves_are_exported_described_and_proven_again(
    checkpoint: Callable[[str], Path], tmp_path: Path, capsys: Capture
) -> None:
    source, model = checkpoint("two"), build(TWO)
    decoder, encoder = tmp_path / "decoder.onnx", tmp_path / "encoder.onnx"
    assert export_model([str(source), str(decoder), SIZE]) == 0
    shown = capsys.readouterr().out
    for part in ("recognised a vq-vae; this is its decoder", "VQ-VAE of 2 levels: images of 32x48",
                 "the file does not tell, so check:", "--relu-inplace yes", "decode, batch 3", "decoder.onnx"):
        assert part in shown, shown
    assert export_model([str(source), str(encoder), SIZE, "--part", "encoder", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decoder.onnx", "encoder.onnx"]
    with load_decoder(decoder) as opened:
        assert opened.manifest.model.family == "vq-vae"
        assert opened.manifest.model.config == {**asdict(TWO), "shape": [32, 48], "levels": [11, 13], "kernels": [4]}
        codes = [np.zeros((1, *spec.shape), np.int64) for spec in TWO.codes]
        with torch.no_grad():
            expected = model.decode(*map(torch.from_numpy, codes)).permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(opened.decode(*codes), expected, rtol=0, atol=1e-4 * expected.std())
    with load_encoder(encoder) as opened_encoder:
        assert [level.shape for level in opened_encoder.encode(np.zeros((2, 32, 48, 3), np.float32))] == [
            (2, *spec.shape) for spec in TWO.codes
        ]
    for path, check in ((decoder, "decode, batch 1"), (encoder, "encode bottom, batch 3")):
        assert pixelsnail_infer(["info", str(path)]) == 0
        assert "top: 4×6, codes 0…10" in capsys.readouterr().out
        assert pixelsnail_infer(["verify", str(path), str(source)]) == 0
        assert check in capsys.readouterr().out


def test_a_first_stage_and_an_option_that_the_file_cannot_tell(
    checkpoint: Callable[[str], Path], tmp_path: Path, capsys: Capture
) -> None:
    target = tmp_path / "stage.onnx"
    assert export_model([str(checkpoint("stage")), str(target), "--shape", "16x24"]) == 0
    assert "recognised a vq-first-stage; this is its decoder" in capsys.readouterr().out
    with load_decoder(target) as decoder:
        assert decoder.manifest.codes == STAGE.codes
    target = tmp_path / "inplace.onnx"
    assert export_model([str(checkpoint("two_inplace")), str(target), SIZE, "--relu-inplace", "yes", "-q"]) == 0
    with load_decoder(target) as decoder:
        assert decoder.manifest.model.config["relu_inplace"] is True
    assert pixelsnail_infer(["verify", str(target), str(checkpoint("two_inplace"))]) == 0
    assert pixelsnail_infer(["verify", str(target), str(checkpoint("two_inplace")), "--relu-inplace", "no"]) == 1
    assert "verification failed: decode, batch 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("two", ["--shape", "32x50"], "32x50 pixels, but this model needs multiples of 8; choose another"),
        ("two", ["--shape", "32"], "--shape is '32', expected rows x columns"),
        ("two", [SIZE, "--n-head", "3"], "--n-head has no meaning for a vq-vae"),
        ("stage", ["--relu-inplace", "yes", "--shape", "16x24"], "--relu-inplace has no meaning for a vq-first-stage"),
    ],
)
def test_wrong_options_are_refused(
    name: str, options: list[str], message: str, checkpoint: Callable[[str], Path], tmp_path: Path, capsys: Capture
) -> None:
    assert export_model([str(checkpoint(name)), str(tmp_path / "d.onnx"), *options]) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_prior_has_no_parts(tmp_path: Path, capsys: Capture) -> None:
    digits = ROOT / "examples" / "digits.pt"
    assert export_model([str(digits), str(tmp_path / "d.onnx"), "--part", "encoder"]) == 1
    assert "--part has no meaning for a vq-prior" in capsys.readouterr().err


def test_a_file_of_another_checkpoint_is_not_verified(exported: Path, tmp_path: Path, capsys: Capture) -> None:
    other = tmp_path / "other.pt"
    torch.save(build(CONFIGS["one"]).state_dict(), other)
    assert pixelsnail_infer(["verify", str(exported), str(other)]) == 1
    assert "was made from another checkpoint" in capsys.readouterr().err


def test_a_decoder_is_no_model_to_sample(exported: Path, tmp_path: Path, capsys: Capture) -> None:
    assert pixelsnail_infer(["sample", str(exported), "-o", str(tmp_path / "x.npy")]) == 1
    assert "is a decoder, not a prior; use load_decoder" in capsys.readouterr().err
