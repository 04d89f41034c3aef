"""A file for every image: names, text chunks, and what happens when one of many cannot be written."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer import __version__
from pixelsnail_infer.__main__ import main
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.runtime import Pipeline, Sampler, load_pipeline, to_uint8
from pixelsnail_infer.runtime.commands import drawn
from pixelsnail_infer.runtime.commands.outputs import parse_output
from pixelsnail_infer.runtime.files import saving
from pixelsnail_infer.runtime.files.images import grey, make_grid, png_grid

from .synthetic import L

IMAGE = pytest.importorskip("PIL.Image")
Capture = pytest.CaptureFixture[str]


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def picture(path: Path) -> tuple[np.ndarray, dict[str, str]]:
    with IMAGE.open(path) as opened:
        return np.asarray(opened), dict(opened.text)


def test_a_picture_for_every_image(toy: Path, sampler: Sampler, tmp_path: Path, capsys: Capture) -> None:
    settings = ["--label", "0-2", "--n", 5, "--seed", 7, "--temperature", 0.5, "--top-k", 4]
    assert run("sample", toy, *settings, "-o", tmp_path / "img_{index:03d}_{label}_{seed}.png") == 0
    expected = grey(sampler.sample(5, seed=7, label=[0, 1, 2, 0, 1], temperature=0.5, top_k=4), L)
    assert names(tmp_path) == [f"img_00{k}_{k % 3}_7.png" for k in range(5)]
    for k in range(5):
        pixels, text = picture(tmp_path / f"img_00{k}_{k % 3}_7.png")
        assert np.array_equal(pixels, expected[k]), "alone, not enlarged, without a border"
        assert text == {
            "Software": f"pixelsnail-infer {__version__}", "model": "toy.onnx",
            "checkpoint_sha256": sampler.manifest.checkpoint.sha256, "seed": "7", "temperature": "0.5", "top_k": "4",
            "index": str(k), "label": str(k % 3),
        }  # fmt: skip
    first, last = tmp_path / "img_000_0_7.png", tmp_path / "img_004_1_7.png"
    assert capsys.readouterr().out.splitlines()[1] == f"wrote 5 files, {first} to {last}"


def test_a_folder_is_made_and_filled(toy: Path, sampler: Sampler, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("sample", toy, "--label", 0, "--n", 3, "--scale", 2, "-o", f"{out}/") == 0
    assert names(out) == ["0000.png", "0001.png", "0002.png"]
    (out / "0001.png").write_bytes(b"old")
    assert run("sample", toy, "--label", 0, "--n", 2, "--scale", 2, "-o", out) == 0, "a folder that is there needs no /"
    expected = grey(sampler.sample(2, label=0), L).repeat(2, 1).repeat(2, 2)
    assert np.array_equal(picture(out / "0001.png")[0], expected[1]) and len(names(out)) == 3


def test_an_array_for_every_image(toy: Path, sampler: Sampler, tmp_path: Path, capsys: Capture) -> None:
    assert run("sample", toy, "--label", 0, "--n", 3, "-o", tmp_path / "a{{{index}}}.npy") == 0
    assert names(tmp_path) == ["a{0}.npy", "a{1}.npy", "a{2}.npy"]
    assert np.array_equal(np.load(tmp_path / "a{2}.npy"), sampler.sample(3, label=0)[2])
    assert run("score", toy, *(tmp_path / name for name in names(tmp_path)), "--label", 0) == 0
    assert "mean of 3: " in capsys.readouterr().out


def test_generate_writes_every_image(chain: dict[str, Path], tmp_path: Path, capsys: Capture) -> None:
    stages = [chain[name] for name in ("top", "bottom", "decoder")]
    codes, settings = tmp_path / "codes.npz", ["--n", 4, "--temperature", "0.5,1", "--top-k", "off,3"]
    out = tmp_path / "{index:02d}.png"
    assert run("generate", *stages, "--label", "0-1", *settings, "-o", out, "--codes", codes) == 0
    with load_pipeline(stages) as pipeline:
        images = pipeline.generate(4, label=[0, 1, 0, 1], temperature=[0.5, 1], top_k=[None, 3]).images
        sums = ", ".join(manifest.checkpoint.sha256 for manifest in pipeline.manifests)
    assert images is not None and names(tmp_path) == ["00.png", "01.png", "02.png", "03.png", "codes.npz"]
    pixels, text = picture(tmp_path / "03.png")
    assert np.array_equal(pixels, to_uint8(images)[3])
    assert text["model"] == "top.onnx, bottom.onnx, decoder.onnx" and text["checkpoint_sha256"] == sums
    assert (text["temperature"], text["top_k"], text["index"], text["label"]) == ("0.5,1", "off,3", "3", "1")
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"wrote 4 files, {tmp_path}/00.png to {tmp_path}/03.png", f"wrote {codes}"
    ]  # fmt: skip


def test_a_grid_says_how_it_was_drawn(toy: Path, tmp_path: Path) -> None:
    assert run("sample", toy, "--label", "0-2", "--n", 4, "-o", tmp_path / "grid.png") == 0
    text = picture(tmp_path / "grid.png")[1]
    assert (text["images"], text["labels"], text["seed"], text["temperature"]) == ("4", "0,1,2", "0", "1")
    assert "index" not in text and "top_k" not in text


@pytest.mark.parametrize(
    "name, says",
    [
        ("{index:1000000000d}.png", "has a brace that belongs to no field"),
        ("{index.__class__}.png", "has a brace that belongs to no field"),
        ("{index!r}.png", "has a brace that belongs to no field"),
        ("{index:x}.png", "has a brace that belongs to no field"),
        ("{index:0100d}.png", "has a brace that belongs to no field"),
        ("{0}.png", "has a brace that belongs to no field"),
        ("{}.png", "has a brace that belongs to no field"),
        ("{index.png", "has a brace that belongs to no field"),
        ("index}.png", "has a brace that belongs to no field"),
        ("{step}.png", "has the unknown field step: {index}, {seed} and {label} are fields"),
        ("{index}.gif", "should end in .png or .npy, or be a folder"),
    ],
)
def test_a_pattern_is_parsed_and_nothing_else(name: str, says: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stop:
        run("sample", "no.onnx", "-o", name)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and says in error and error.count("\n") == 2


@pytest.mark.parametrize(
    "name, n, label, says",
    [
        ("{seed}.png", 2, "0", "for both image 0 and image 1; add {index} to it"),
        ("{label}.png", 3, "0,1", "for both image 0 and image 2; add {index} to it"),
        ("{label}_{index}.png", 2, None, "-o has the field {label}, but there is no --label"),
        ("{index}.png", 100_001, "0", "-o names a file for each of 100001 images, expected at most 100,000"),
        ("no/{index}.png", 2, "0", "there is no folder"),
        ("no/no/", 2, "0", "there is no folder"),
        ("toy.onnx/", 2, "0", "there is no folder"),
        ("there/{index}.png", 2, "0", "there/1.png is not a regular file"),
    ],
)
def test_names_are_checked_before_the_work(
    toy: Path, tmp_path: Path, monkeypatch: Any, capsys: Capture, name: str, n: int, label: str | None, says: str
) -> None:
    monkeypatch.setattr(Sampler, "sample", None)  # must not be reached
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there" / "1.png").mkdir(parents=True)
    (tmp_path / "toy.onnx").write_bytes(b"")
    given = [] if label is None else ["--label", label]
    assert run("sample", toy, "--n", n, *given, "-o", name) == 1
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert names(tmp_path) == ["there", "toy.onnx"] and names(tmp_path / "there") == ["1.png"]


def test_columns_are_for_a_grid(toy: Path, tmp_path: Path, capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        run("sample", toy, "--label", 0, "--columns", 2, "-o", tmp_path / "{index}.png")
    assert "--columns is for one picture of all images" in capsys.readouterr().err and names(tmp_path) == []


@pytest.mark.parametrize("error, code", [(OSError(28, "full"), 1), (KeyboardInterrupt(), 130), (MemoryError(), 1)])
def test_a_failure_in_the_middle_says_what_is_there(
    toy: Path, tmp_path: Path, capsys: Capture, monkeypatch: Any, error: BaseException, code: int
) -> None:
    calls = []

    def fsync(number: int) -> None:
        calls.append(number)
        if len(calls) == 3:
            raise error

    monkeypatch.setattr(saving.os, "fsync", fsync)
    (tmp_path / "2.npy").write_bytes(b"old")
    assert run("sample", toy, "--label", 0, "--n", 5, "-o", tmp_path / "{index}.npy") == code
    said = capsys.readouterr().err
    assert f"2 of 5 files were written, the last one {tmp_path}/1.npy" in said and said.count("\n") == 1
    assert names(tmp_path) == ["0.npy", "1.npy", "2.npy"] and (tmp_path / "2.npy").read_bytes() == b"old"


def test_pictures_are_made_one_at_a_time(toy: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Ten thousand pictures must not wait in memory for the disk."""
    made, held = drawn.png_alone, []

    def alone(*args: Any, **options: Any) -> bytes:
        held.append(len(names(tmp_path)))
        return made(*args, **options)

    monkeypatch.setattr(drawn, "png_alone", alone)
    assert run("sample", toy, "--label", 0, "--n", 4, "-o", tmp_path / "{index}.png") == 0 and held == [0, 1, 2, 3]


def test_bytes_that_are_no_utf8_stay(toy: Path, tmp_path: Path, capsys: Capture) -> None:
    assert run("sample", toy, "--label", 0, "--n", 2, "-o", tmp_path / "\udcff{index}.png") == 0
    assert sorted(os.listdir(os.fsencode(tmp_path))) == [b"\xff0.png", b"\xff1.png"]
    assert "\\xff0.png" in capsys.readouterr().out


def test_paths_of_a_pattern() -> None:
    output = parse_output("a{{b}}_{index:05}_{label:02d}.npy")
    assert [str(path) for path in output.paths(2, 3, [7])] == ["a{b}_00000_07.npy", "a{b}_00001_07.npy"]
    assert not output.picture and not output.folder and output.each
    assert [str(path) for path in parse_output("{seed}/").paths(1, 3, None)] == ["3/0000.png"]
    one = parse_output("a{{1}}.png")
    assert not one.each and [str(path) for path in one.paths(9, 0, None)] == ["a{1}.png"]
    with pytest.raises(RequestError):
        parse_output("{label}.png").paths(1, 0, None)


def test_pipelines_describe_their_stages(chain: dict[str, Path]) -> None:
    with load_pipeline([chain["top"], chain["bottom"]]) as pipeline:
        assert isinstance(pipeline, Pipeline) and [m.kind for m in pipeline.manifests] == ["prior", "prior"]


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("scale", [1, 5])
def test_a_grid_is_what_pillow_draws(colour: bool, scale: int) -> None:
    """Tiles and captions in their places; captions that do not fit end at the border of the picture."""
    draw = pytest.importorskip("PIL.ImageDraw")
    rng, captions = np.random.default_rng(0), ["3", "10", "3", "7", "9999999"]
    images = rng.uniform(-1, 1, (5, 9, 12, 3)).astype(np.float32) if colour else rng.integers(0, L, (5, 9, 12))
    tiles = to_uint8(images) if colour else grey(images, L)
    grid = make_grid(5, (9, 12), captions=True, columns=3, scale=scale)
    expected = IMAGE.new("RGB" if colour else "L", grid.size, (96,) * 3 if colour else 96)
    for k, tile in enumerate(tiles):
        x, y = grid.place(k)
        draw.Draw(expected).text((x, y), captions[k], fill=(255,) * 3 if colour else 255)
        expected.paste(IMAGE.fromarray(tile.repeat(scale, 0).repeat(scale, 1)), (x, y + 14))
    made = png_grid(images, None if colour else L, captions=captions, columns=3, scale=scale)
    with IMAGE.open(io.BytesIO(made)) as opened:
        assert opened.mode == expected.mode and np.array_equal(np.asarray(opened), np.asarray(expected))
