"""What the machine and the packages say of GPUs, and what is made of it."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from pixelsnail_infer.runtime.doctor import machine
from pixelsnail_infer.runtime.doctor.looking import LOOKS, missing
from pixelsnail_infer.runtime.doctor.machine import GPU, look_at_machine

from .fakes import Fakes

H100, L4 = "NVIDIA H100 80GB HBM3, 9.0, 81559, 580.95.05", "NVIDIA L4, 8.9, 23034, 580.95.05"


@dataclass
class Cuda:
    """PyTorch's `torch.cuda`, which sees so many GPUs."""

    count: int

    def is_available(self) -> bool:
        if not self.count:
            warnings.warn("The NVIDIA driver on your system is too old\n(found version 11040).", stacklevel=1)
        return self.count > 0

    def device_count(self) -> int:
        return self.count

    def get_device_properties(self, index: int) -> Any:
        return SimpleNamespace(name=f"GPU number {index}", major=8, minor=index, total_memory=80 << 30)


@pytest.fixture
def torch_with(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(cuda: str | None, count: int) -> Any:
        made = SimpleNamespace(__version__="2.9", version=SimpleNamespace(cuda=cuda), cuda=Cuda(count))
        monkeypatch.setitem(sys.modules, "torch", made)  # type: ignore[arg-type]
        return LOOKS["torch"][0](1)

    return make


def test_torch_with_gpus(torch_with: Any) -> None:
    seen = torch_with("12.8", 2)
    assert seen.devices == ["cpu", "cuda", "cuda:1"] and seen.absent == {} and seen.version == "2.9"
    assert seen.says == ["built for CUDA 12.8", "cuda is GPU number 0, compute capability 8.0, 80 GiB",
                         "cuda:1 is GPU number 1, compute capability 8.1, 80 GiB"]


def test_torch_that_sees_no_gpu_says_why(torch_with: Any) -> None:
    seen = torch_with("12.8", 0)
    assert seen.devices == ["cpu"] and seen.absent["cuda"] == (
        "PyTorch sees no GPU (The NVIDIA driver on your system is too old (found version 11040).); look at the NVIDIA "
        "driver")
    seen = torch_with(None, 0)
    assert seen.says == ["built without CUDA"]
    assert seen.absent["cuda"].startswith("this PyTorch is built without CUDA; install a build for CUDA")


def test_two_builds_of_onnx_runtime_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelsnail_infer.runtime.doctor.looking._installed", lambda name: True)
    assert any("both installed" in line for line in LOOKS["onnxruntime"][0](0).says)
    monkeypatch.undo()
    assert not any("both installed" in line for line in LOOKS["onnxruntime"][0](0).says)


def test_either_tensorrt_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    look, modules = LOOKS["tensorrt"]
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    with pytest.raises(ModuleNotFoundError) as caught:
        look(1)
    assert missing(caught.value, modules) and not missing(caught.value, ("torch",))
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", SimpleNamespace(__version__="1.7"))  # type: ignore[arg-type]
    assert (look(1).devices, look(1).says, look(1).version) == (["cuda"], ["tensorrt_rtx 1.7"], "1.7")
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="10.13"))  # type: ignore[arg-type]
    seen = look(0)
    assert (seen.version, seen.says) == ("10.13", ["tensorrt 10.13, tensorrt_rtx 1.7"])
    assert (seen.devices, seen.absent) == ([], {"cuda": "no NVIDIA GPU was found"})


def test_the_gpus_that_the_driver_lists(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.program("nvidia-smi", f"echo '{H100}'\necho '{L4}'")
    found = look_at_machine()
    assert found.gpus == (GPU("NVIDIA H100 80GB HBM3", "9.0", "81559", "580.95.05"),
                          GPU("NVIDIA L4", "8.9", "23034", "580.95.05"))
    assert (found.usable_gpus, found.gpus_say) == (2, "")
    for hides in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hides)
        found = look_at_machine()
        assert (found.usable_gpus, len(found.gpus)) == (0, 2)
        assert found.gpus_say == f"CUDA_VISIBLE_DEVICES={hides} hides all GPUs"


@pytest.mark.parametrize(("script", "says"), [
    ("echo 'No devices were found'", "lists no GPU (No devices were found); look at the NVIDIA driver"),
    ("echo 'cannot communicate with the driver' >&2; exit 9", "lists no GPU (cannot communicate with the driver)"),
    ("exit 3", "lists no GPU (status 3)"),
    ("kill -9 $$", "lists no GPU (status -9)"),
    ("printf '\\377\\033[2J, 1\\n'", "lists no GPU ("),
])
def test_a_tool_that_does_not_work(script: str, says: str, fakes: Fakes) -> None:
    fakes.program("nvidia-smi", script)
    found = look_at_machine()
    assert found.usable_gpus == 0 and says in found.gpus_say and found.gpus_say.isprintable()


def test_a_tool_that_hangs_and_one_that_cannot_be_run(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_LIMIT", 0.5)
    fakes.program("nvidia-smi", "exec 1>&- 2>&-; while :; do :; done")
    assert "nvidia-smi does not work (" in look_at_machine().gpus_say
    (fakes.folder / "bin" / "nvidia-smi").write_bytes(b"\x7fELF no program")
    assert "nvidia-smi does not work (" in look_at_machine().gpus_say
