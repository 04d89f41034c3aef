"""The command `build`, on a stand-in for TensorRT."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixelsnail_infer.__main__ import main
from pixelsnail_infer.errors import BackendError
from pixelsnail_infer.runtime.backends import cuda_device
from pixelsnail_infer.runtime.commands import build_command

from . import synthetic
from .fake_cuda import FakeCuda
from .fake_tensorrt import FakeTensorRt

Capture, Patch = pytest.CaptureFixture[str], pytest.MonkeyPatch
PARTS = ("", ".row", ".prologue", ".score", ".filtered")


@pytest.fixture
def fake(monkeypatch: Patch) -> FakeTensorRt:
    made = FakeTensorRt(FakeCuda())
    monkeypatch.setattr(build_command, "find_package", made.package)
    monkeypatch.setattr(cuda_device, "_runtime", lambda: made.cuda)
    monkeypatch.delenv("PIXELSNAIL_ENGINES", raising=False)
    return made


@pytest.fixture
def model(parts: dict[str, bytes], tmp_path: Path) -> Path:
    return synthetic.write(tmp_path, parts)


def test_every_file_of_a_prior_is_built_for_named_gpus(fake: FakeTensorRt, model: Path, capsys: Capture) -> None:
    fake.cuda.gpus = 0
    given = ["build", str(model), "--sm", "12.0", "--sm", "8.0", "--sm", "8.0", "--max-batch", "8"]
    assert main(given) == 0
    assert {path.name for path in model.parent.glob("*.engine")} == {f"toy{p}.tensorrt_rtx.engine" for p in PARTS}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{model.parent}/toy.tensorrt_rtx.engine  0.0 MiB, ") and lines[0].endswith(" s")
    assert lines[-1].startswith("5 engines for SM 12.0, 8.0 by tensorrt_rtx 1.7 in ")
    assert all(config.capabilities == {0: "12.0", 1: "8.0"} for config in fake.configs)
    assert fake.configs[0].profiles[0]["row"] == ((1,), (8,), (8,))


def test_the_gpu_at_hand_is_the_default(fake: FakeTensorRt, model: Path, capsys: Capture, monkeypatch: Patch) -> None:
    monkeypatch.setattr(build_command, "find_package", lambda: fake.package("tensorrt", "11.0"))
    assert main(["build", str(model), "--device", "cuda:1"]) == 0
    assert (model.parent / "toy.tensorrt-Fake_GPU_9.engine").exists() and fake.built_on == [1] * 5
    assert "5 engines for SM 8.9 by tensorrt 11.0" in capsys.readouterr().out


def test_a_decoder_goes_to_the_folder_that_is_named(fake: FakeTensorRt, chain: dict[str, Path], tmp_path: Path) -> None:
    assert main(["build", str(chain["decoder"]), str(chain["encoder"]), "--sm", "8.9", "--engines", str(tmp_path)]) == 0
    assert [path.name.split(".")[0] for path in sorted(tmp_path.glob("*.engine"))] == ["decoder", "encoder"]
    assert [max(next(iter(config.profiles[0].values())))[0] for config in fake.configs] == [16, 16]


def says(capsys: Capture, *given: str, code: int = 1) -> str:
    try:
        assert main(["build", *given]) == code
    except SystemExit as stop:
        assert stop.code == code
    return capsys.readouterr().err


def test_what_cannot_be_built_is_told(fake: FakeTensorRt, model: Path, digits_archive: Path, capsys: Capture,
                                      monkeypatch: Patch) -> None:
    name = str(model)
    assert "tensorrt_rtx 1.7 has no SM 9.0, only 8.0, 8.9, 12.0." in says(capsys, name, "--sm", "9.0")
    assert "'sm89' is no compute capability, expected one such as 8.9" in says(capsys, name, "--sm", "sm89", code=2)
    assert "'cpu' is no GPU, expected cuda, cuda:1" in says(capsys, name, "--device", "cpu", code=2)
    assert "not allowed with" in says(capsys, name, "--device", "cuda", "--sm", "8.9", code=2)
    assert "is a TorchScript archive, and TensorRT runs ONNX files" in says(capsys, str(digits_archive), "--sm", "8.9")
    assert "is the row part of an export" in says(capsys, name.replace(".onnx", ".row.onnx"), "--sm", "8.9")
    model.with_name("toy.row.onnx").write_bytes(b"")
    assert "toy.row.onnx is empty" in says(capsys, name, "--sm", "8.9")
    fake.cuda.gpus = 0
    assert "CUDA sees 0 GPUs; install an NVIDIA driver" in says(capsys, str(mended(model)))
    monkeypatch.setattr(build_command, "find_package", lambda: fake.package("tensorrt", "11.0"))
    assert "tensorrt 11.0 builds only for the GPU that it runs on" in says(capsys, str(mended(model)), "--sm", "8.9")

    def missing() -> None:
        raise BackendError("TensorRT is not installed; install it.")

    monkeypatch.setattr(build_command, "find_package", missing)
    assert "TensorRT is not installed; install it." in says(capsys, str(mended(model)), "--sm", "8.9")
    assert not fake.configs


def mended(model: Path) -> Path:
    """The model, whole again."""
    synthetic.write(model.parent, synthetic.build())
    return model


def test_the_help_teaches(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["build", "--help"])
    shown = capsys.readouterr().out
    for words in ("--sm 8.9", "--max-batch", "PIXELSNAIL_ENGINES", "running a program", "install 'pixelsnail-infer["):
        assert words in shown
