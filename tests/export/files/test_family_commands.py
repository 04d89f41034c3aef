"""Every family through `export-model`: what it says, what it needs, and that the files are the network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pixelsnail_infer.__main__ import main as infer
from pixelsnail_infer.distributions import from_uint8
from pixelsnail_infer.export.cli import main
from pixelsnail_infer.export.proofs import verify
from pixelsnail_infer.runtime import load

from . import families as f

Capture = pytest.CaptureFixture[str]
RANDOM = np.random.default_rng(1)
TF = ["--arch", "h12_noup_smallkey", "--shape", "4x6"]
APPROXIMATE = ["--approximate", "first-position"]


def export(path: Path, folder: Path, *options: str) -> int:
    (folder / "out").mkdir(exist_ok=True)
    return main([str(path), str(folder / "out" / "out.onnx"), *options])


def error(folder: Path, module: Any, given: f.Arrays, images: NDArray[Any]) -> float:
    """How far the replay of the written files is from the network's own forward, in standard deviations."""
    expected = f.logits(module, images, given)
    with load(folder / "out" / "out.onnx", threads=1) as sampler:
        return float(np.abs(sampler.replay(images, **given) - expected).max() / expected.std())


PRIORS: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "bottom": ({}, [], "conditioned on 2x3 codes: assumed a factor of 2 (--upsample)"),
    "upsampled by 1": ({"upsample": 1}, ["--upsample", "1"], "conditioned on 4x6 codes: as asked a factor of 1"),
    "without condition": ({"no_condition": True}, ["--no-condition"], "tensors of the condition: as asked"),
    "in-place ELU": ({"elu_inplace": True}, ["--elu-inplace"], "conditioned on 2x3 codes"),
    "all of it": ({"elu_inplace": True, "upsample": 1}, ["--elu-inplace", "--upsample", "1"], "VQ prior: 4x6 codes"),
}


@pytest.mark.parametrize("kind", PRIORS)
def test_bottom_priors(kind: str, tmp_path: Path, capsys: Capture) -> None:
    options, flags, says = PRIORS[kind]
    path = f.prior_file(f.BOTTOM, tmp_path / "bottom.pt")
    assert export(path, tmp_path, *flags) == 0
    assert says in capsys.readouterr().out
    module = f.network(path, **options)
    grid = (4, 6) if "upsample" in options else (2, 3)
    given = {} if "no_condition" in options else {"condition": RANDOM.integers(0, 7, (3, *grid))}
    codes = RANDOM.integers(0, 7, (3, 4, 6))
    assert error(tmp_path, module, given, codes) < 1e-4
    plain = f.network(path) if kind == "in-place ELU" else None
    assert plain is None or error(tmp_path, plain, given, codes) > 0.01, "the option makes a difference"
    assert infer(["verify", str(tmp_path / "out" / "out.onnx"), str(path), *flags]) == 0


def test_audio_priors_of_the_published_canvas(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """20x86 codes and seven labels, at a small width; the interpreter takes all rows but one at once."""
    monkeypatch.setattr(verify, "SINGLY", 0.0)
    monkeypatch.setattr(verify, "SECONDS", float("inf"))
    path = f.prior_file(f.AUDIO, tmp_path / "audio.pt")
    assert export(path, tmp_path) == 0
    out = capsys.readouterr().out
    for part in ("recognised a vq-prior of 20x86 codes, 9 levels", "conditioned on a label of 7",
                 "2 attention heads, as the file's args name them", "cond_resnet is stored but unused"):
        assert part in out
    assert out.count("every position, 19 rows at once") == 2
    given = {"label": np.array([6, 0])}
    assert error(tmp_path, f.network(path), given, RANDOM.integers(0, 9, (2, 20, 86))) < 1e-4


def test_what_is_sure_and_what_is_assumed(tmp_path: Path, capsys: Capture) -> None:
    path = f.prior_file(replace(f.BOTTOM, attention=True, n_head=2), tmp_path / "bottom.pt")
    content = torch.load(path, weights_only=False)
    torch.save(content["model"], path)  # without args: nothing tells the heads
    assert export(path, tmp_path, "--n-head", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "recognised a vq-prior of 4x6 codes, 7 levels: every tensor of the file has its place"
    start = lines.index("  the file does not tell, so check:")
    assert [line.strip() for line in lines[start + 1:start + 3]] == [
        "conditioned on 2x3 codes: assumed a factor of 2 (--upsample)",
        "assumed ELU not in place; a file trained before July 2020 needs --elu-inplace"]
    assert export(path, tmp_path) == 1  # eight heads do not divide the four channels
    assert "(--n-head)" in capsys.readouterr().err


# Options that a file needs, and those that mean nothing to it ---------------------------------------------------------


def bare(path: Path, leave_out: str) -> Path:
    """A top prior without one of its tensors."""
    state = f.prior(replace(f.BOTTOM, condition=None)).state_dict()
    torch.save({name: tensor for name, tensor in state.items() if name != leave_out}, path)
    return path


def test_incomplete_files_list_the_options_to_set(tmp_path: Path, capsys: Capture) -> None:
    for path, says in ((bare(tmp_path / "prior.pt", "background"), "give its H and W (--shape)"),
                       (f.pixelcnn_files(tmp_path)[0], "give H and W (--shape)"),
                       (f.TF, "needs --arch, one of h12_noup_smallkey, h8_noup_smallkey, h12_pool2_smallkey, h6_shift"),
                       (f.kamen_files(tmp_path)[0], "--approximate first-position")):
        assert export(path, tmp_path, "-q") == 1
        assert says in capsys.readouterr().err
        assert list((tmp_path / "out").iterdir()) == []


IDLE = [
    ("prior", ["--arch", "h6_shift"], "--arch has no meaning for a vq-prior"),
    ("prior", ["--round"], "--round has no meaning for a vq-prior"),
    ("prior", ["--bits", "8"], "--bits has no meaning for a vq-prior"),
    ("prior", ["--approximate", "first-position"], "it is for pixel-models"),
    ("prior", ["--ema", "x.pt"], "--ema has no meaning for a vq-prior"),
    ("prior", ["--upsample", "2"], "--upsample has no meaning for a model that is not conditioned on codes"),
    ("prior", ["--condition-kind", "vector"], "--condition-kind has no meaning for a vq-prior"),
    ("kamen", [*APPROXIMATE, "--elu-inplace"], "--elu-inplace has no meaning for a pixel-models"),
    ("kamen", [*APPROXIMATE, "--no-ema"], "--no-ema has no meaning for a pixel-models"),
    ("kamen", [*APPROXIMATE, "--condition-kind", "label"], "for a model without conditions"),
    ("pixelcnn", ["--shape", "5x6", "--n-head", "2"], "--n-head has no meaning for a pixelcnn"),
    ("pixelcnn", ["--shape", "5x6", "--no-condition"], "--no-condition has no meaning for a pixelcnn"),
    ("tensorflow", [*TF, "--ema", "x.pt"], "--ema has no meaning for a pixelsnail"),
    ("tensorflow", [*TF, "--upsample", "2"], "--upsample has no meaning for a pixelsnail"),
    ("snail", ["--no-ema"], "--no-ema is for TensorFlow checkpoints"),
    ("snail", ["--nonlinearity", "relu"], "--nonlinearity is for TensorFlow checkpoints"),
    ("pixelcnn++", ["--arch", "h6_shift"], "--arch has no meaning for a pixelcnn++"),
    ("pixelcnn++", ["--n-head", "2"], "--n-head has no meaning for a pixelcnn++"),
    ("pixelcnn++", ["--ema", "x.pt"], "--ema has no meaning for a pixelcnn++"),
    ("pixelcnn++", ["--condition-kind", "label"], "for a model without conditions"),
]


@pytest.mark.parametrize("family, options, says", IDLE)
def test_options_without_a_meaning_are_refused(
    family: str, options: list[str], says: str, tmp_path: Path, capsys: Capture
) -> None:
    path = {"prior": lambda: bare(tmp_path / "prior.pt", ""), "kamen": lambda: f.kamen_files(tmp_path)[0],
            "pixelcnn": lambda: f.pixelcnn_files(tmp_path)[0], "tensorflow": lambda: f.TF,
            "pixelcnn++": lambda: f.TF.with_name("cpp.ckpt"),
            "snail": lambda: Path(__file__).parents[3] / "examples" / "patches.pt"}[family]()
    assert export(path, tmp_path, "-q", *options) == 1
    assert says in capsys.readouterr().err and list((tmp_path / "out").iterdir()) == []


# The other families ---------------------------------------------------------------------------------------------------


def colours(*shape: int) -> NDArray[np.float32]:
    return from_uint8(RANDOM.integers(0, 256, shape).astype(np.uint8))


@pytest.mark.parametrize("more, options, says", [
    ([], {}, "took the moving averages"), (["--no-ema"], {"no_ema": True}, "took the bare variables"),
])
def test_tensorflow_bundles(
    more: list[str], options: dict[str, Any], says: str, tmp_path: Path, capsys: Capture
) -> None:
    assert export(f.TF, tmp_path, *TF, *more) == 0
    out = capsys.readouterr().out
    assert "recognised a pixelsnail of 4x6 pixels of 3 channels" in out and says in out
    assert "h12_pool2_smallkey has the same variables: which one it is, --arch alone says" in out
    module = f.network(f.TF, arch=TF[1], shape=(4, 6), **options)
    given = {name: RANDOM.standard_normal((2, *shape)).astype(np.float32)
             for name, shape in module.config.condition_shapes.items()}
    assert error(tmp_path, module, given, colours(2, 4, 6, 3)) < 1e-4
    assert infer(["verify", str(tmp_path / "out" / "out.onnx"), str(f.TF), *TF, *more]) == 0


@pytest.mark.parametrize("name, shape, more, options, says", [
    ("cpp.ckpt", (8, 12), ["--round"], {}, "took the moving averages"),
    ("cpp1.ckpt", (8, 8), ["--nonlinearity", "relu", "--no-ema"], {"nonlinearity": "relu", "no_ema": True},
     "conditioned on a label of 3"),
])  # fmt: skip
def test_pixelcnnpp_of_tensorflow(
    name: str, shape: tuple[int, int], more: list[str], options: dict[str, Any], says: str, tmp_path: Path,
    capsys: Capture,
) -> None:  # fmt: skip
    path, size = f.TF.with_name(name), ["--shape", f"{shape[0]}x{shape[1]}"]
    assert export(path, tmp_path, *size, *more) == 0
    out = capsys.readouterr().out
    assert f"recognised a pixelcnn++ of {shape[0]}x{shape[1]} pixels of 3 channels" in out and says in out
    module = f.network(path, shape=shape, **options)
    given = {"label": RANDOM.integers(0, 3, 2)} if module.config.condition else {}
    assert error(tmp_path, module, given, colours(2, *shape, 3)) < 1e-4
    again = [*size, *(one for one in more if one != "--round")]
    assert infer(["verify", str(tmp_path / "out" / "out.onnx"), str(path), *again]) == 0


def test_pixel_models_only_approximated(tmp_path: Path, capsys: Capture) -> None:
    path, averages = f.kamen_files(tmp_path)
    assert export(path, tmp_path, "-q") == 1
    assert "not causal: position 0 attends to nothing that is earlier" in capsys.readouterr().err
    images = colours(2, 4, 5, 3)
    assert export(path, tmp_path, *APPROXIMATE) == 0
    out = capsys.readouterr().out
    assert "APPROXIMATE: position 0 attends to nothing" in out and "assumed 8 bits a colour" in out
    bare, averaged = f.network(path, approximate="first-position"), f.network(
        path, approximate="first-position", ema=averages)
    assert error(tmp_path, bare, {}, images) < 1e-4 < 0.01 < error(tmp_path, averaged, {}, images)
    assert export(path, tmp_path, *APPROXIMATE, "--ema", str(averages)) == 0
    assert "took the averaged weights of" in capsys.readouterr().out
    assert error(tmp_path, averaged, {}, images) < 1e-4


def test_bits_of_pixel_models(tmp_path: Path, capsys: Capture) -> None:
    path, _ = f.kamen_files(tmp_path)
    assert export(path, tmp_path, *APPROXIMATE, "--bits", "8") == 0
    assert "assumed 8 bits" not in capsys.readouterr().out
    assert export(path, tmp_path, "-q", *APPROXIMATE, "--bits", "4") == 1
    assert "the model's colours have 4 bits (--bits); only 8 are supported" in capsys.readouterr().err
    assert export(path, tmp_path, "-q", *APPROXIMATE, "--bits", "0") == 1
    assert "bits" in capsys.readouterr().err


def test_whole_pickles_only_when_asked(tmp_path: Path, capsys: Capture) -> None:
    state, whole = f.pixelcnn_files(tmp_path)
    assert export(whole, tmp_path, "-q", "--shape", "5x6") == 1
    assert "is refused: reading it would import or run" in capsys.readouterr().err
    assert export(whole, tmp_path, "--shape", "5x6", "--unsafe-pickle") == 0
    assert "could have run anything" in capsys.readouterr().out
    given, images = {"label": np.array([0, 2])}, RANDOM.integers(0, 4, (2, 5, 6))
    assert error(tmp_path, f.network(state, shape=(5, 6)), given, images) < 1e-4
    assert export(state, tmp_path, "-q", "--shape", "5x6", "--unsafe-pickle") == 1
    assert "needs no unsafe pickle" in capsys.readouterr().err


def test_weights_for_classes_of_a_pixelcnn(tmp_path: Path) -> None:
    state, _ = f.pixelcnn_files(tmp_path)
    assert export(state, tmp_path, "-q", "--shape", "5x6", "--condition-kind", "vector") == 0
    between = np.array([[0.5, 0.5, 0], [0, 0, 1]], np.float32)
    module = f.network(state, shape=(5, 6), condition_kind="vector")
    assert error(tmp_path, module, {"h": between}, RANDOM.integers(0, 4, (2, 5, 6))) < 1e-4
