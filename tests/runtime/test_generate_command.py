"""The command `generate`, in process: what it draws, completes, writes and refuses."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.__main__ import main
from pixelsnail_infer.noise import image_keys
from pixelsnail_infer.runtime import Pipeline, from_uint8, load_pipeline, to_uint8
from pixelsnail_infer.runtime.commands.pictures import read_picture
from pixelsnail_infer.runtime.files.images import as_pixels
from pixelsnail_infer.runtime.pipeline.stage_requests import stage_keys

from .chain import BOTTOM, CODEC, LABEL, Toy

IMAGE = pytest.importorskip("PIL.Image")
PHOTO = np.random.default_rng(6).integers(0, 256, (8, 12, 3)).astype(np.uint8)


def run(*arguments: object) -> int:
    return main(["generate", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def pipeline(chain: dict[str, Path]) -> Iterator[Pipeline]:
    with load_pipeline([chain[name] for name in ("top", "bottom", "decoder")], encoder=chain["encoder"]) as opened:
        yield opened


@pytest.fixture
def stages(chain: dict[str, Path]) -> list[Path]:
    return [chain[name] for name in ("top", "bottom", "decoder")]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    IMAGE.fromarray(PHOTO).save(path)
    return path


def test_images_and_codes_are_written(
    stages: list[Path], pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, codes = tmp_path / "images.npy", tmp_path / "codes.npz"
    settings = ["--temperature", "0.5,1", "--top-k", "off,3", "--top-p", 0.9, "--max-batch", 2, "--threads", 1]
    assert run(*stages, "--n", 5, "--label", "0-2", "--seed", 4, *settings, "-o", out, "--codes", codes) == 0
    expected = pipeline.generate(5, seed=4, label=LABEL, temperature=[0.5, 1], top_k=[None, 3], top_p=0.9)
    assert np.array_equal(np.load(out), expected.images)
    with np.load(codes) as held:
        assert held.files == ["top", "bottom"]
        assert all(np.array_equal(held[name], found) for name, found in expected.by_name.items())
    printed = capsys.readouterr()
    assert printed.out.startswith("5 images of 8×12 from codes top 2×3, bottom 4×6 in ")
    assert printed.out.splitlines()[1:] == [f"wrote {out}", f"wrote {codes}"] and printed.err == ""


def test_a_picture_is_a_grid_with_a_column_per_label(stages: list[Path], pipeline: Pipeline, tmp_path: Path) -> None:
    out = tmp_path / "grid.png"
    assert run(*stages, "--label", "0-2", "--n", 6, "--scale", 2, "-o", out) == 0
    with IMAGE.open(out) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (4 + 2 * (16 + 14 + 4), 4 + 3 * (24 + 4), 3)
    expected = pipeline.generate(6, label=[0, 1, 2] * 2).images
    assert expected is not None
    assert np.array_equal(pixels[18:34:2, 4:28:2], to_uint8(expected)[0])


def test_codes_alone_need_no_decoder(chain: dict[str, Path], pipeline: Pipeline, tmp_path: Path, capsys: Any) -> None:
    codes = tmp_path / "codes.npz"
    assert run(chain["top"], chain["bottom"], "--label", 1, "--n", 2, "--codes", codes) == 0
    with np.load(codes) as held:
        assert np.array_equal(held["codes1"], pipeline.generate(2, label=1).codes[1])
    assert capsys.readouterr().out.startswith("codes of 2 images (codes0 2×3, codes1 4×6) in ")
    codes.unlink()
    assert run(chain["top"], "--label", 1, "-o", tmp_path / "a.png") == 1
    assert "draw codes, not images; add their decoder's file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_a_picture_is_kept(
    stages: list[Path], chain: dict[str, Path], pipeline: Pipeline, photo: Path, tmp_path: Path
) -> None:
    out, array = tmp_path / "images.npy", tmp_path / "photo.npy"
    np.save(array, PHOTO)
    expected = pipeline.generate(3, label=2, image=PHOTO, keep=(0, 0, 4, 8)).images
    for image in (photo, array):
        completing = ["--encoder", chain["encoder"], "--image", image, "--keep", "0,0,4,8"]
        assert run(*stages, "--label", 2, "--n", 3, *completing, "-o", out) == 0
        assert np.array_equal(np.load(out), expected)


def test_a_picture_of_another_size_is_refused_or_fitted(
    stages: list[Path], chain: dict[str, Path], pipeline: Pipeline, tmp_path: Path, capsys: Any
) -> None:
    large = np.zeros((32, 24, 3), np.uint8)
    large[8:24] = PHOTO.repeat(2, 0).repeat(2, 1)  # the middle, of the right shape
    IMAGE.fromarray(large).save(tmp_path / "large.png")
    completing = ["--encoder", chain["encoder"], "--image", tmp_path / "large.png", "--keep", "0,0,12,4"]
    out = tmp_path / "images.npy"
    assert run(*stages, "--label", 0, "--n", 1, *completing, "-o", out) == 1
    assert "large.png is 24×32 pixels, expected 12×8 (width×height); resize it, or add --fit" in capsys.readouterr().err
    assert run(*stages, "--label", 0, "--n", 1, *completing, "--fit", "-o", out) == 0
    fitted = read_picture(tmp_path / "large.png", 3, (8, 12), fit=True)
    assert fitted.shape == (8, 12, 3) and np.abs(fitted - from_uint8(PHOTO)).mean() < 0.25
    assert np.array_equal(np.load(out), pipeline.generate(1, label=0, image=fitted, keep=(0, 0, 12, 4)).images)


def test_a_picture_stands_upright(tmp_path: Path) -> None:
    turned = IMAGE.fromarray(PHOTO)
    exif = turned.getexif()
    exif[0x0112] = 3  # by 180 degrees
    turned.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_picture(tmp_path / "turned.png", 3), from_uint8(PHOTO[::-1, ::-1]))


def test_links_are_taken(chain: dict[str, Path], pipeline: Pipeline, tmp_path: Path, capsys: Any) -> None:
    other = Toy((4, 6), 5, labels=3, condition=(2, 3, 5)).write(tmp_path, "other.onnx")
    codes = tmp_path / "codes.npz"
    assert run(chain["top"], other, "--label", 0, "--n", 2, "--codes", codes) == 1
    assert "takes codes 2×3 of 5 levels, which no earlier stage draws" in capsys.readouterr().err
    np.save(tmp_path / "condition.npy", np.ones((2, 3), np.int64))
    given = ["--link", "1.condition=none", "--condition", f"condition={tmp_path / 'condition.npy'}"]
    assert run(chain["top"], other, "--label", 0, "--n", 2, *given, "--codes", codes) == 0
    with load_pipeline([chain["top"], other], links={(1, "condition"): None}) as loose, np.load(codes) as held:
        expected = loose.generate(2, label=0, condition=np.ones((2, 3), np.int64))
        assert np.array_equal(held["codes1"], expected.codes[1])
    assert run(chain["top"], chain["top"], chain["bottom"], "--link", "2.condition=1", "--label", 0, "--n", 1,
               "--codes", codes) == 0
    with np.load(codes) as held:
        third = BOTTOM.sample_slowly(stage_keys(image_keys(0, 1), 2), label=0, condition=held["codes1"])
        assert held.files == ["codes0", "codes1", "codes2"] and np.array_equal(held["codes2"], third)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--label", "3"], "Stage 0: label holds 3"),
        ([], "needs a condition: label=<class 0…2>"),
        (["--label", "0", "--condition", "condition=x.npy"], "x.npy cannot be read"),
        (["--label", "0", "--temperature", "1,2,3"], "temperature has 3 entries"),
        (["--label", "0", "--image", "PHOTO", "--keep", "0,0,4,8"], "--image needs --encoder FILE.onnx"),
        (["--label", "0", "--image", "PHOTO", "--keep", "0,0,13,8", "--encoder", "ENCODER"], "which leaves the image"),
        (["--label", "0", "--image", "PHOTO", "--keep", "4,0,4,8", "--encoder", "ENCODER"], "which is empty"),
        (["--label", "0", "--image", "no.png", "--keep", "0,0,4,8", "--encoder", "ENCODER"], "cannot be read as a pic"),
        (["--label", "0", "--image", "PHOTO", "--keep", "0,0,4,8", "--encoder", "DECODER"], "is a decoder, not an enc"),
        (["--label", "0", "--link", "1.condition=1"], "is 1, expected an earlier stage"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    stages: list[Path], chain: dict[str, Path], photo: Path, capsys: Any, arguments: list[str], message: str
) -> None:
    places = {"PHOTO": str(photo), "ENCODER": str(chain["encoder"]), "DECODER": str(chain["decoder"])}
    given = [places.get(argument, argument) for argument in arguments]
    assert run(*stages, "--n", 2, *given, "-o", photo.parent / "out.npy") == 1
    error = capsys.readouterr().err
    assert message in error and error.startswith("pixelsnail-infer: ") and error.count("\n") == 1
    assert list(photo.parent.iterdir()) == [photo]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "give -o FILE.png, -o FILE.npy or --codes FILE.npz"),
        (["-o", "a.jpg"], "should end in .png or .npy"),
        (["--codes", "a.npy"], "should end in .npz"),
        (["-o", "a.npy", "--keep", "1,2,3"], "is not a rectangle; write X0,Y0,X1,Y1"),
        (["-o", "a.npy", "--keep", "0,0,4,4"], "--image and --keep go together"),
        (["-o", "a.npy", "--image", "a.png"], "--image and --keep go together"),
        (["-o", "a.npy", "--encoder", "e.onnx"], "--encoder and --fit go with them"),
        (["-o", "a.npy", "--temperature", "hot"], "could not convert"),
        (["-o", "a.npy", "--link", "condition=0"], "is not STAGE.NAME=STAGE"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], message: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        run("x.onnx", *arguments)
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_help_teaches(capsys: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        run("--help")
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert "generate top.onnx bottom.onnx decoder.onnx" in text and "--keep 0,0,128,256" in text


def test_outputs_are_checked_before_the_work(
    stages: list[Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pipeline, "generate", None)  # must not be reached
    for given in (["-o", tmp_path / "no" / "a.npy"], ["-o", tmp_path / "a.npy", "--codes", tmp_path / "no" / "a.npz"]):
        assert run(*stages, "--label", 0, *given) == 1
        assert "there is no folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error, code", [(KeyboardInterrupt(), 130), (OSError(errno.ENOSPC, "full"), 1)])
def test_nothing_is_left_behind(
    stages: list[Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(*((Pipeline, "generate", fail) if code == 130 else (os, "fsync", fail)))
    assert run(*stages, "--label", 0, "--n", 1, "-o", tmp_path / "a.npy", "--codes", tmp_path / "a.npz") == code
    assert capsys.readouterr().err.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_spectrograms_are_stretched_and_turned_over(chain: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    mel = np.linspace(-11, 2, 12, dtype=np.float32).reshape(1, 3, 4, 1)
    shown = as_pixels(mel, "log-mel")
    assert shown.min() == -1 and shown.max() == 1 and shown[0, 2, 0, 0] == -1 and shown[0, 0, 3, 0] == 1
    assert as_pixels(mel, "pixels") is mel and np.isfinite(as_pixels(mel * 0, "log-mel")).all()
    decoder, encoder = (CODEC.write(tmp_path, kind, values="log-mel") for kind in ("decoder", "encoder"))
    stages, out = [chain["top"], chain["bottom"], decoder, "--label", 0, "--n", 1], tmp_path / "out"
    assert run(*stages, "-o", f"{out}.png", "--scale", 1) == 0 and run(*stages, "-o", f"{out}.npy") == 0
    with IMAGE.open(f"{out}.png") as picture:
        expected = to_uint8(as_pixels(np.load(f"{out}.npy"), "log-mel"))[0]
        assert np.array_equal(np.asarray(picture)[18:26, 4:16], expected)
    np.save(tmp_path / "mel.npy", np.load(f"{out}.npy")[0] * 9)
    keep = ["--encoder", encoder, "--keep", "0,0,4,8", "-o", f"{out}.npy"]
    assert run(*stages, *keep, "--image", tmp_path / "mel.npy") == 0
    capsys.readouterr()
    assert run(*stages, *keep, "--image", f"{out}.png") == 1
    assert "out.png is no .npy file; the encoder takes log-mel values, not pictures" in capsys.readouterr().err
