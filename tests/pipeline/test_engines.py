"""One way to choose an engine for a whole pipeline: all of it in PyTorch, all in ONNX Runtime, or each stage in one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.__main__ import main
from pixelsnail_infer.errors import BackendError, RequestError
from pixelsnail_infer.export import export_model
from pixelsnail_infer.export.codecs.exporting import export_codec
from pixelsnail_infer.runtime import Pipeline, load_pipeline
from pixelsnail_infer.runtime.pipeline import loading as module

from .conftest import BOTTOM, LABELS, LEVELS, TOP, Trained

TORCH, ONNX = "torch", "onnxruntime"
PHOTO = np.random.default_rng(9).uniform(-1, 1, (16, 16, 3)).astype(np.float32)
WITHOUT = """
import sys
sys.modules.update(dict.fromkeys(("onnxruntime", "onnx", "onnxscript", "onnx_ir", "networkx")))
from pixelsnail_infer.__main__ import main
sys.exit(main({arguments!r}))
"""


@pytest.fixture(scope="session")
def archives(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same models as archives."""
    folder = tmp_path_factory.mktemp("archives")
    files = {name: folder / f"{name}.pt" for name in ("top", "bottom", "decoder", "encoder")}
    given: dict[str, Any] = {"levels": LEVELS, "format": "torchscript"}
    export_model(trained.top, files["top"], shape=TOP.shape, conditions={"label": f"class:{LABELS}"}, **given)
    condition = {"condition": f"codes:4x4:{LEVELS}"}
    export_model(trained.bottom, files["bottom"], shape=BOTTOM.shape, conditions=condition, **given)
    for kind in ("decoder", "encoder"):
        export_codec(trained.codec, files[kind], kind=kind, format="torchscript")
    return files


def stages(archives: dict[str, Path]) -> list[Path]:
    return [archives[name] for name in ("top", "bottom", "decoder")]


@pytest.mark.parametrize("settings", [
    {}, {"temperature": [1.0, 0.7], "top_k": [5, None]}, {"image": PHOTO, "keep": (0, 0, 8, 16)},
    {"image": PHOTO, "keep": (0, 0, 16, 8), "max_batch": 3},
], ids=["plain", "settings", "the left half kept", "rows kept"])
def test_all_in_pytorch_is_all_in_onnx_runtime(pipeline: Pipeline, archives: dict[str, Path],
                                               settings: dict[str, Any]) -> None:
    """To the last code: none of these draws is so near a tie that the engines differ."""
    expected = pipeline.generate(7, seed=5, label=[0, 1, 2, 0, 1, 1, 2], **settings)
    with load_pipeline(stages(archives), encoder=archives["encoder"], backend=TORCH, threads=1) as other:
        found = other.generate(7, seed=5, label=[0, 1, 2, 0, 1, 1, 2], **settings)
    for one, held in zip(expected.codes, found.codes, strict=True):
        assert np.array_equal(one, held) and len(np.unique(held)) > 3
    assert expected.images is not None and found.images is not None
    assert np.abs(expected.images - found.images).max() <= 1e-4 * expected.images.std()


def test_every_stage_may_have_its_own(pipeline: Pipeline, trained: Trained, archives: dict[str, Path]) -> None:
    paths = [trained.stages[0], archives["bottom"], trained.stages[2]]
    expected = pipeline.generate(3, label=1)
    for backend in ("auto", [ONNX, TORCH, "auto"]):
        with load_pipeline(paths, backend=backend, device=["cpu", "cpu", "cpu"], threads=1) as mixed:
            assert all(map(np.array_equal, mixed.generate(3, label=1).codes, expected.codes))


def test_every_file_gets_what_was_chosen_for_it(archives: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str, str]] = []
    for name in ("load", "load_decoder", "load_encoder"):
        right = getattr(module, name)

        def note(path: Path, *, device: str, backend: str, threads: int, right: Any = right) -> Any:
            seen.append((path.stem, device, backend))
            return right(path, threads=threads)

        monkeypatch.setattr(module, name, note)
    chosen: dict[str, Any] = {"device": ["cuda", "cuda:1", "cpu", "cuda:2"], "backend": [TORCH, "auto", ONNX, TORCH]}
    load_pipeline(stages(archives), encoder=archives["encoder"], threads=1, **chosen).close()
    assert seen == [("top", "cuda", TORCH), ("bottom", "cuda:1", "auto"), ("decoder", "cpu", ONNX),
                    ("encoder", "cuda:2", TORCH)]


def test_bad_choices_are_told(trained: Trained, archives: dict[str, Path]) -> None:
    with pytest.raises(RequestError, match="device has 2 entries for 3 files, the encoder's included; give one"):
        load_pipeline(trained.stages, device=["cpu", "cpu"])
    with pytest.raises(RequestError, match="backend has 3 entries for 4 files"):
        load_pipeline(trained.stages, encoder=trained.encoder, backend=["auto"] * 3)
    with pytest.raises(BackendError, match="which runs TorchScript archives, but .*top.onnx is an ONNX file; leave"):
        load_pipeline(trained.stages, backend=TORCH)
    with pytest.raises(BackendError, match="which runs ONNX files, but .*decoder.pt is a TorchScript archive"):
        load_pipeline([*trained.stages[:2], archives["decoder"]], backend=ONNX)
    with pytest.raises(BackendError, match="backend is 3, expected 'auto', 'onnxruntime'"):
        load_pipeline(trained.stages, backend=3)  # type: ignore[arg-type]
    with pytest.raises(BackendError, match="device is None, expected 'cpu' or 'cuda'"):
        load_pipeline(trained.stages, device=None)  # type: ignore[arg-type]


def test_the_command_needs_pytorch_alone(pipeline: Pipeline, archives: dict[str, Path], tmp_path: Path) -> None:
    np.save(tmp_path / "photo.npy", PHOTO)
    out, codes = tmp_path / "images.npy", tmp_path / "codes.npz"
    arguments = ["generate", *map(str, stages(archives)), "--encoder", str(archives["encoder"]), "--n", "3"]
    arguments += ["--label", "1", "--image", str(tmp_path / "photo.npy"), "--keep", "0,0,8,16", "--threads", "1"]
    arguments += ["--backend", TORCH, "--device", "cpu,cpu,cpu,cpu", "-o", str(out), "--codes", str(codes)]
    code = WITHOUT.format(arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    expected = pipeline.generate(3, label=1, image=PHOTO, keep=(0, 0, 8, 16))
    assert all(np.array_equal(held, expected.by_name[name]) for name, held in np.load(codes).items())
    assert expected.images is not None and np.abs(np.load(out) - expected.images).max() < 1e-4


@pytest.mark.parametrize(("command", "given", "says"), [
    ("generate", ["--backend", "torch,tpu"], "'tpu' is no backend, expected auto, onnxruntime, torch"),
    ("generate", ["--device", "cpu,gpu"], "'gpu' is no device, expected cpu, cuda"),
    ("sample", ["--device", "cpu,cpu"], "'cpu,cpu' is no device"),
    ("score", ["--backend", "tpu"], "'tpu' is no backend"),
    ("verify", ["--backend", "tpu"], "'tpu' is no backend"),
])
def test_usage(command: str, given: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "a.onnx", "b.npy", *given])
    assert stop.value.code == 2 and says in capsys.readouterr().err


def test_every_command_that_runs_a_model_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for command in ("sample", "score", "generate", "verify"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        words = " ".join(capsys.readouterr().out.split())
        texts.append([words[(at := words.index(f"--{name} {name.upper()} ", words.index("options:"))):][:90]
                      for name in ("device", "backend")])
        assert at > 0
    assert all(held == texts[0] for held in texts), texts
