"""Sizes that no machine has, numbers of thousands of digits, odd paths: one line, at once, and nothing written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.__main__ import main
from pixelsnail_infer.errors import BackendError, RequestError
from pixelsnail_infer.runtime import Pipeline, Sampler, load, load_decoder, load_pipeline
from pixelsnail_infer.runtime.backends.host import THREADS_PER_CORE, usable_cores
from pixelsnail_infer.runtime.backends.onnxruntime_cpu import CpuBackend
from pixelsnail_infer.runtime.files import images
from pixelsnail_infer.runtime.requests import memory

Capture = pytest.CaptureFixture[str]
DIGITS, LONG = "1" * 5000, "x" * (1 << 20)
HUGE = "1" + "0" * 12


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command must be refused before it draws."""
    for name in ("draw_batch", "_rows"):
        monkeypatch.setattr(Sampler, name, None)


def refused(capsys: Capture, *arguments: object) -> str:
    """What a command says that is refused as it should be."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code  # type: ignore[assignment]
    printed = capsys.readouterr()
    assert code in (1, 2) and printed.err.count("\n") == code and printed.out == "", printed
    assert len(printed.err) < 1500 and printed.err.replace("\n", "").isprintable()
    return printed.err


NUMBERS = [
    ("--n", HUGE, "that many images would take"), ("--n", DIGITS, "an integer of 5000 digits is too large"),
    ("--n", "-1", "is not an integer of at least 1"), ("--n", LONG, "is not an integer"), ("--n", "", "not an integer"),
    ("--max-batch", DIGITS, "5000 digits"), ("--seed", DIGITS, "5000 digits"), ("--seed", str(2**64), "2^64 - 1"),
    ("--threads", "10000000000", "but this process may use "), ("--threads", DIGITS, "5000 digits"),
    ("--threads", str(usable_cores() * THREADS_PER_CORE + 1), "give at most"),
    ("--scale", "1000000000", "The picture would be"), ("--columns", "1000000", "The picture would be"),
    ("--scale", DIGITS, "5000 digits"), ("--columns", "1" + "0" * 29, "The picture would be"),
    ("--temperature", "nan", "expected finite numbers"), ("--temperature", "1e400", "expected finite numbers"),
    ("--temperature", "inf", "expected finite numbers"), ("--temperature", DIGITS, "expected finite numbers"),
    ("--temperature", LONG, "float"), ("--top-p", "nan", "numbers above 0"), ("--top-p", "1e400", "numbers above 0"),
    ("--top-k", "1" + "0" * 29, "top_k is"), ("--top-k", DIGITS, "5000 digits"),
    ("--label", "0-999999999", "than 100,000 labels"), ("--label", "0-99999," * 9 + "0", "than 100,000 labels"),
    ("--label", DIGITS, "is not a list of labels"), ("--label", LONG, "is not a list"), ("--label", "", "not a list"),
    ("--label", "\x1b[31m\n", "is not a list of labels"), ("--condition", "\x1b\n=1", "is not a condition of this"),
    ("--condition", "a" * 9999 + "=1", "is not a condition of this"), ("--device", LONG, "is no device, expected cpu"),
    ("-o", "", "should end in"), ("-o", "/" + "n" * 300 + ".png", "name too long"), ("-o", LONG + ".png", "too long"),
    ("-o", "no\n\x1b/a.png", "there is no folder"), ("-o", "no\udcff/a.png", "there is no folder"),
]  # fmt: skip


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("command", ["sample", "generate"])
@pytest.mark.parametrize("option, value, says", NUMBERS)
def test_every_option_of_drawing(
    toy: Path, chain: dict[str, Path], tmp_path: Path, capsys: Capture, command: str, option: str, value: str, says: str
) -> None:
    models = [toy] if command == "sample" else [chain[name] for name in ("top", "bottom", "decoder")]
    given = {"--label": "0", "-o": tmp_path / "x.png"} | {option: value}
    assert says in refused(capsys, command, *models, *(word for pair in given.items() for word in pair))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    "option, value, says",
    [
        ("--keep", f"0,0,{DIGITS},1", "is not a rectangle"), ("--keep", "0,0,1e3,4", "is not a rectangle"),
        ("--keep", "0,0,1" + "0" * 29 + ",4", "keep is (0, 0, 1000"), ("--keep", "", "is not a rectangle"),
        ("--link", f"{DIGITS}.condition=0", "5000 digits"), ("--link", f"1.condition={DIGITS}", "5000 digits"),
        ("--link", "1.condition=" + "9" * 29, "expected an earlier stage"), ("--link", "1.\x1b=0", "links has the key"),
        ("--encoder", "", "cannot be read"), ("--image", "", "cannot be read as a picture"),
        ("--image", "a\n\x1b\udcff.png", "cannot be read as a"), ("--temperature", "1," * 99999 + "1", "entries"),
    ],
)  # fmt: skip
def test_options_of_completion(
    chain: dict[str, Path], tmp_path: Path, capsys: Capture, option: str, value: str, says: str
) -> None:
    photo = tmp_path / "photo.npy"
    np.save(photo, np.zeros((8, 12, 3), np.uint8))
    given = {"--keep": "0,0,4,8", "--image": photo, "--encoder": chain["encoder"], option: value}
    models = [chain[name] for name in ("top", "bottom", "decoder")]
    rest = ["--label", 0, "-o", tmp_path / "x.png"]
    assert says in refused(capsys, "generate", *models, *(word for pair in given.items() for word in pair), *rest)
    assert list(tmp_path.iterdir()) == [photo]


@pytest.mark.parametrize("path", ["", "\x1b[31m", "a\nb", "n" * 300, LONG, "no\udcff", "."])
@pytest.mark.parametrize("command", ["sample", "generate", "score", "info"])
def test_odd_paths_of_models(command: str, path: str, tmp_path: Path, capsys: Capture, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    more = {"sample": ["-o", "x.npy"], "generate": ["-o", "x.npy"], "score": ["codes.npy"], "info": []}[command]
    refused(capsys, command, path, *more)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["", "\x1b[31m.npy", "a\nb.npy", "n" * 300, LONG, "no\udcff.npy", ".", "\x1b.png"])
def test_odd_paths_of_arrays(toy: Path, path: str, tmp_path: Path, capsys: Capture, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    refused(capsys, "score", toy, path, "--label", 0)
    refused(capsys, "sample", toy, "--label", 0, "--known", path, "--known-mask", path, "-o", "x.npy")
    refused(capsys, "score", toy, "codes.npy", "--label", 0, "-o", f"no/{path}.npy")
    refused(capsys, "score", toy, "codes.npy", "--label", 0, "--csv", f"no/{path}.csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("undrawn")
def test_an_output_is_no_input(toy: Path, chain: dict[str, Path], tmp_path: Path, capsys: Capture) -> None:
    codes, link = tmp_path / "codes.npy", tmp_path / "link.npy"
    np.save(codes, np.zeros((1, 4, 5), int))
    before = codes.read_bytes()
    link.symlink_to(codes)
    for out in (codes, link):
        assert "is an input, too" in refused(capsys, "score", toy, codes, "--label", 0, "-o", out)
        given = ["--label", 0, "--known", codes, "--known-mask", codes]
        assert "is an input, too" in refused(capsys, "sample", toy, *given, "-o", out)
        assert "is an input, too" in refused(capsys, "sample", toy, "--condition", f"label={codes}", "-o", out)
        given = ["--label", 0, "--image", codes, "--keep", "0,0,4,8", "--encoder", chain["encoder"]]
        assert "is an input, too" in refused(capsys, "generate", chain["top"], *given, "-o", out)
    (tmp_path / "1.npy").symlink_to(codes)
    given = ["--n", 2, "--condition", f"label={codes}", "-o", tmp_path / "{index}.npy"]
    assert "1.npy is an input, too" in refused(capsys, "sample", toy, *given)
    assert codes.read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only(toy: Path, tmp_path: Path, capsys: Capture) -> None:
    tmp_path.chmod(0o500)
    for name in ("a.png", "{index}.png", "out/"):
        assert "Permission denied" in refused(capsys, "sample", toy, "--label", 0, "-o", tmp_path / name)
    tmp_path.chmod(0o700)


def test_large_requests_from_python(toy: Path, chain: dict[str, Path]) -> None:
    with load(toy) as sampler:
        with pytest.raises(RequestError, match="that many images would take"):
            sampler.sample(10**9, label=0)
        with pytest.raises(RequestError, match="A batch of .* images would take"):
            sampler.warm_up(10**9)
        for n in (10**12, 10**30, 10**5000):
            for call in (lambda n=n: sampler.sample(n, label=0), lambda n=n: sampler.warm_up(n)):
                with pytest.raises(RequestError, match="expected an integer of at most 2147483647"):
                    call()
        for name in ("seed", "temperature", "top_k", "top_p"):
            with pytest.raises(RequestError, match=f"^{name} is int of too many digits"):
                sampler.sample(1, label=0, **{name: 10**5000})
        with pytest.raises(RequestError, match="max_batch is int of too many digits"):
            sampler.sample(1, label=0, max_batch=-(10**5000))
        with pytest.raises(RequestError, match="known_rows is int of too many digits"):
            sampler.replay(np.zeros((4, 5), int), label=0, known_rows=10**5000)
    cores = usable_cores()
    for threads in (10**10, 10**5000, cores * THREADS_PER_CORE + 1):
        with pytest.raises(BackendError, match=rf"may use {cores} cores?; give at most {cores * THREADS_PER_CORE},"):
            load(toy, threads=threads)
    assert CpuBackend(cores * THREADS_PER_CORE).threads == cores * THREADS_PER_CORE
    models = [chain[name] for name in ("top", "bottom", "decoder")]
    with load_pipeline(models, encoder=chain["encoder"]) as pipeline:
        with pytest.raises(RequestError, match="that many images would take"):
            pipeline.generate(10**9, label=0)
        with pytest.raises(RequestError, match="keep is .0, 0, int|keep is tuple of too many digits"):
            pipeline.generate(1, label=0, image=np.zeros((8, 12, 3)), keep=(0, 0, 10**5000, 4))


def test_what_fits_is_asked_of_the_memory_that_is_there(
    parts: dict[str, bytes], chain: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    siblings = {name: data for name, data in parts.items() if name != "step"}
    with load(parts["step"], siblings=siblings, threads=1) as sampler:
        manifest, images_of_3 = sampler.manifest, np.zeros((3, 4, 5), int)
        per_image = memory.request_bytes(manifest)
        assert per_image == 4 * 5 * (8 + 8 + 1) + 40
        monkeypatch.setattr(memory, "_LITTLE", 0)
        monkeypatch.setattr(memory, "available_bytes", lambda: 3 * per_image)
        with pytest.raises(RequestError, match="n is 4; that many images would take 1.5 KiB of memory, and 1.1 KiB"):
            sampler.sample(4, label=0)
        batch = sampler.state_bytes(3) + sampler.buffer_bytes(3)
        monkeypatch.setattr(memory, "available_bytes", lambda: batch - 1)
        assert batch > 3 * per_image
        with pytest.raises(RequestError, match="A batch of 3 images would take .*; give a smaller max_batch"):
            sampler.sample(3, label=0)
        with pytest.raises(RequestError, match="A batch of 3 images would take"):
            sampler.replay(images_of_3, label=0)
        monkeypatch.setattr(memory, "available_bytes", lambda: batch)
        assert sampler.batch_growth(3) == batch
        sampler.replay(images_of_3, label=0)
        assert sampler.batch_growth(3) == 0, "buffers that are there are not asked for again"
        sampler.replay(images_of_3, label=0)
        monkeypatch.setattr(memory, "available_bytes", lambda: 100)
        with pytest.raises(RequestError, match="A batch of 3 images that are scored would take"):
            sampler.score(images_of_3, label=0)
    with load_decoder(chain["decoder"]) as decoder:
        assert decoder.result_bytes == 8 * 12 * 3 * 4
        codes = [np.zeros((2, *level.shape), int) for level in decoder.manifest.codes]
        with pytest.raises(RequestError, match="n is 2; that many images would take"):
            decoder.decode(*codes)
        monkeypatch.setattr(memory, "available_bytes", lambda: 2 * decoder.result_bytes)
        with pytest.raises(RequestError, match="A batch of 2 images that are coded would take"):
            decoder.decode(*codes)


def test_a_pipeline_asks_for_all_its_stages_first(chain: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with load_pipeline([chain["top"], chain["bottom"]]) as pipeline:
        growth = sum(prior.batch_growth(2) for prior in pipeline._priors)
        single = max(prior.batch_growth(2) for prior in pipeline._priors)
        monkeypatch.setattr(memory, "_LITTLE", 0)
        monkeypatch.setattr(memory, "available_bytes", lambda: growth - 1)
        with pytest.raises(RequestError, match="A batch of 2 images would take"):
            pipeline.generate(2, label=0)
        assert isinstance(pipeline, Pipeline) and growth - 1 >= max(single, 2 * pipeline.image_bytes)


def test_memory_is_that_of_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo, limit, none = tmp_path / "meminfo", tmp_path / "max", tmp_path / "no"
    meminfo.write_text("MemTotal:  9000 kB\nMemAvailable:    7000 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    monkeypatch.setattr(memory, "_CONTAINER", (limit, none))
    for text, expected in (("max\n", 7000 * 1024), ("4096\n", 4096), ("99999999\n", 7000 * 1024)):
        limit.write_text(text)
        assert memory.available_bytes() == expected
    monkeypatch.setattr(memory, "_MEMINFO", none)
    limit.unlink()
    assert memory.available_bytes() >= 1 << 28, "without /proc it is the machine's memory"


def test_a_picture_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = images.make_grid(6, (2, 3), captions=True, columns=3, scale=2)
    assert grid.size == (4 + 3 * 10, 4 + 2 * (4 + 14 + 4)) and grid.place(4) == (4 + 10, 4 + 22)
    monkeypatch.setattr(images, "MOST_PIXELS", 34 * 48)
    images.make_grid(6, (2, 3), captions=True, columns=3, scale=2)
    images.check_alone((34, 48), 1)
    for call in (lambda: images.make_grid(7, (2, 3), captions=True, columns=3, scale=2),
                 lambda: images.check_alone((34, 48), 2)):  # fmt: skip
        with pytest.raises(RequestError, match="expected at most 1,632 of them"):
            call()
