"""The commands, with a denoiser: export-model, info, sample, score, verify."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pixelsnail_infer.__main__ import main
from pixelsnail_infer.export.cli import main as export_model
from pixelsnail_infer.runtime import load


@pytest.fixture()
def small(tmp_path: Path) -> str:
    path = tmp_path / "small.npy"
    np.save(path, np.random.default_rng(0).uniform(-1, 1, (2, 4, 4, 3)).astype(np.float32))
    return str(path)


def test_sample_writes_what_the_call_gives(exported: Path, tmp_path: Path, small: str,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "images.npy"
    code = main(["sample", str(exported), "--n", "2", "--label", "0,2", "--low-res", small, "--steps", "ddim5", "--eta",
                 "0.5", "--seed", "3", "-o", str(out)])
    assert code == 0 and "5 steps" in capsys.readouterr().out
    with load(exported) as denoiser:
        expected = denoiser.sample(2, seed=3, steps="ddim5", eta=0.5, label=[0, 2], low_res=np.load(small))
    np.testing.assert_allclose(np.load(out), expected, atol=1e-6)
    assert main(["sample", str(exported), "--n", "2", "--label", "0,2", "--low-res", small, "--steps", "2", "-o",
                 str(tmp_path / "grid.png")]) == 0


def test_score_prints_the_bound(exported: Path, tmp_path: Path, small: str, capsys: pytest.CaptureFixture[str]) -> None:
    images = (np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)) / 127.5 - 1).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    arguments = [str(exported), str(tmp_path / "images.npy"), "--label", "1", "--low-res", small, "--steps", "4"]
    assert main(["score", *arguments, "--csv", str(tmp_path / "out.csv")]) == 0
    with load(exported) as denoiser:
        bits = denoiser.bits_per_dim(images, steps=4, label=1, low_res=np.load(small))
    rows = [line.split(",") for line in (tmp_path / "out.csv").read_text().splitlines()[1:]]
    np.testing.assert_allclose([float(row[3]) for row in rows], bits, rtol=1e-6)
    np.testing.assert_allclose([float(row[2]) for row in rows], -bits * 192 * np.log(2), rtol=1e-6)
    assert "bits per dimension" in capsys.readouterr().out


def test_info_describes_it(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(exported)]) == 0
    told = capsys.readouterr().out
    for part in ("denoiser of family", "8×8, 3 channels", "label=<class 0…2>", "40 steps, cosine", "learned-range",
                 "unet.times.onnx", "intact"):
        assert part in told
    assert main(["info", str(exported), "--json"]) == 0 and '"kind": "denoiser"' in capsys.readouterr().out


@pytest.mark.parametrize("more, message", [
    (["--temperature", "0.5"], "--temperature is for models that draw pixel by pixel"),
    (["--schedule", "raster"], "--schedule is for models that draw pixel by pixel"),
    (["--sampler", "ddpm", "--eta", "0.5", "--low-res", "SMALL"], "eta is for the sampler 'ddim'"),
    (["--top-k", "3"], "--top-k is for models that draw pixel by pixel"), (["--steps", "ddim17"], "no stride"),
    (["--eta", "2", "--low-res", "SMALL"], "eta"), ([], "add --low-res FILE, a picture of 4×4")])
def test_wrong_options_end_in_one_line(exported: Path, tmp_path: Path, more: list[str], message: str, small: str,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    more = [small if one == "SMALL" else one for one in more]
    assert main(["sample", str(exported), "--n", "2", "--label", "0", *more, "-o", str(tmp_path / "a.npy")]) == 1
    said = capsys.readouterr().err.strip()
    assert message in said and "\n" not in said
    assert not (tmp_path / "a.npy").exists()


def test_commands_that_do_not_run_denoisers_say_so(exported: Path, tmp_path: Path, small: str,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and nothing is left."""
    folder, model, given = tmp_path / "bulk", str(exported), ["--condition", f"low_res={small}", "--label", "0"]
    for arguments, message in (
            (["bench", model, "--json", str(tmp_path / "a.json")], "is a denoiser, not a prior"),
            (["bulk", model, "--n", "2", *given, "-o", str(folder)], "denoiser among them, which bulk does not run"),
            (["score", model, small, "-o", str(tmp_path / "a.npy")], "--output is of single pixels")):
        assert main(arguments) == 1
        said = capsys.readouterr().err.strip()
        assert message in said and "\n" not in said and [path.name for path in tmp_path.iterdir()] == ["small.npy"]


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    for command, parts in (("sample", ["ddim50", "--eta", "--low-res"]), ("score", ["variational bound", "--steps"]),
                           ("generate", ["cond64.onnx upsample.onnx", "once for each denoiser"])):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        told = " ".join(capsys.readouterr().out.split())
        for part in parts:
            assert part in told


def test_options_of_denoisers_are_refused_for_others(digits_graphs: dict[str, Path], tmp_path: Path,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    step, out = str(digits_graphs["step"]), str(tmp_path / "a.png")
    assert main(["sample", step, "--label", "0", "--steps", "5", "-o", out]) == 1
    assert "--steps is for denoisers" in capsys.readouterr().err


def test_what_is_assumed_is_printed(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export_model([str(checkpoint), str(tmp_path / "a.onnx"), "--shape", "8x8", "--n-head", "7"]) == 1
    assert "7 attention heads do not divide" in capsys.readouterr().err and list(tmp_path.iterdir()) == []
