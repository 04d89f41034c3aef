"""The doctor says what is here, and nothing that an engine does takes it down: it is told, and the others are tried."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from pixelsnail_infer.__main__ import main
from pixelsnail_infer.runtime.backends.choosing import ENGINES
from pixelsnail_infer.runtime.doctor import probing
from pixelsnail_infer.runtime.doctor.examination import examine, finding
from pixelsnail_infer.runtime.doctor.findings import EngineFinding, Findings
from pixelsnail_infer.runtime.doctor.looking import LOOKS
from pixelsnail_infer.runtime.doctor.probing import Probe, probe
from pixelsnail_infer.runtime.doctor.words import in_words

from .fakes import Fakes

SMI = "echo 'NVIDIA H100 80GB HBM3, 9.0, 81559, 580.95.05'"
NO_TENSORRT = ("tensorrt", "tensorrt_rtx_bindings")


def engine(findings: Findings, name: str) -> EngineFinding:
    return next(one for one in findings.engines if one.name == name)


def states(one: EngineFinding) -> dict[str, str]:
    return {device.device: device.state for device in one.devices}


def test_every_engine_of_this_machine_works_and_none_is_loaded_here(capsys: pytest.CaptureFixture[str]) -> None:
    code = "import sys\nfrom pixelsnail_infer.__main__ import main\ncode = main(['doctor', '--json'])\n" \
           "assert not {'torch', 'onnxruntime', 'tensorrt'} & set(sys.modules)\nsys.exit(code)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    engines = {one["name"]: one for one in found["engines"]}
    assert found["healthy"] is True and set(engines) == set(LOOKS) >= set(ENGINES)
    for name in ("onnxruntime", "torch"):
        cpu = engines[name]["devices"][0]
        assert engines[name]["state"] == cpu["state"] == "works" and cpu["device"] == "cpu"
        assert cpu["says"].startswith("3 images with the codes that they must have") and 0 < cpu["seconds"] < 60
        assert engines[name]["version"]


def test_the_words(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    fakes.missing("torch")
    for name in NO_TENSORRT:
        fakes.missing(name)
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    for line in ("NVIDIA GPU: there is no nvidia-smi, so no NVIDIA driver", "onnxruntime 1.", "  cpu     ok: 3 images",
                 "torch: not there\n  not installed; pip install 'pixelsnail-infer[torch]'",
                 "tensorrt: not there\n  not installed; pip install 'pixelsnail-infer[tensorrt]'",
                 "All that is installed works."):
        assert line in out, out
    assert err.splitlines() == ["trying torch", "trying onnxruntime", "trying tensorrt"]


@pytest.mark.parametrize(("source", "says"), [
    ("raise OSError('libcudart.so.12: cannot open shared object file')", "OSError: libcudart.so.12: cannot open"),
    ("raise ModuleNotFoundError('No module named sympy', name='sympy')", "ModuleNotFoundError: No module named sympy"),
    ("raise SystemExit(3)", "SystemExit: 3"),
    ("import os\nos.kill(os.getpid(), 11)", "its process was ended by signal 11, SIGSEGV"),
    ("import os, sys\nprint('loader: no', file=sys.stderr)\nsys.stderr.flush()\nos._exit(7)",
     "its process ended with status 7; it printed: loader: no"),
    ("import os\nos._exit(0)", "it said nothing"),
    ("class version:\n    pass", "AttributeError: type object 'version' has no attribute 'cuda'"),
], ids=["library", "what it needs", "exit", "crash", "status", "silent", "other"])
def test_a_broken_package_is_told_and_the_others_are_tried(source: str, says: str, fakes: Fakes,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    fakes.package("torch", source)
    assert main(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    broken = next(one for one in found["engines"] if one["name"] == "torch")
    assert broken["state"] == "failed" and broken["devices"] == []
    assert broken["says"][0].startswith("it is installed and cannot be used: ") and says in broken["says"][0]
    assert broken["says"][1].startswith("install it again: pip install 'pixelsnail-infer[torch]'")
    other = next(one for one in found["engines"] if one["name"] == "onnxruntime")
    assert other["state"] == "works" and found["healthy"] is False


def test_a_package_that_hangs(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.package("torch", "import time\ntime.sleep(600)")
    assert probe("torch", 0, 1.0).ended == "it gave no answer within 1 s"
    assert finding("torch", probe("torch", 0, 1.0)).state == "failed"
    monkeypatch.setattr(probing, "LIMIT", 1.0)
    assert probe("torch", 0).ended == "it gave no answer within 1 s"


def test_what_a_package_prints_is_not_what_it_tells(fakes: Fakes) -> None:
    fakes.changed("onnxruntime", "import os\nos.write(1, b'{\"seen\": 1}\\n')\nos.write(2, b'a warning\\n')")
    held = probe("onnxruntime", 0)
    assert held.ended is None and held.told[0]["seen"]["devices"] == ["cpu"] and held.told[-1]["works"] is True


def test_an_engine_that_gives_other_codes_fails(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong by so little that images would still look right: the sign of one input."""
    fakes.changed("torch", """
        add = real.jit.load
        def load(*given, **named):
            module = add(*given, **named)
            next(held for held in module.step.buffers() if held.dim() == 2 and held.is_floating_point()).neg_()
            return module
        real.jit.load = load
    """)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "  cpu     FAILED: it gives other codes than it must: " in out
    assert "Something that is installed does not work." in out and "onnxruntime 1" in out


PROVIDERS = "real.get_available_providers = lambda: ['CUDAExecutionProvider', 'CPUExecutionProvider']"


def test_a_gpu_that_does_not_work_is_no_cpu(fakes: Fakes) -> None:
    """ONNX Runtime for the GPU would go on with the CPU."""
    fakes.changed("onnxruntime", PROVIDERS)
    fakes.program("nvidia-smi", SMI)
    fakes.missing("torch")
    findings = examine()
    found = engine(findings, "onnxruntime")
    assert states(found) == {"cpu": "works", "cuda": "failed"} and found.state == "failed" and not findings.healthy
    assert "CUDA" in found.devices[1].says
    says = "NVIDIA GPU: NVIDIA H100 80GB HBM3, compute capability 9.0, 81559 MiB, driver 580.95.05"
    assert says in in_words(findings).splitlines()


@pytest.mark.parametrize(("change", "device", "cuda"), [
    ("import os\nreal.InferenceSession = lambda *given, **named: os.kill(os.getpid(), 11)", "cpu", "failed"),
    ("import os\nwanted = real.OrtValue.ortvalue_from_numpy\nreal.OrtValue.ortvalue_from_numpy = staticmethod("
     "lambda array, *device: os._exit(0) if device and device[0] == 'cuda' else wanted(array, *device))", "cuda",
     "failed"),
])
def test_an_engine_that_crashes_at_a_device_is_blamed_there(change: str, device: str, cuda: str, fakes: Fakes) -> None:
    fakes.changed("onnxruntime", f"{PROVIDERS}\n{change}")
    found = finding("onnxruntime", probe("onnxruntime", 1))
    held = {one.device: one for one in found.devices}
    assert found.state == held[device].state == "failed" and found.version
    assert held[device].says == ("its process was ended by signal 11, SIGSEGV" if device == "cpu" else
                                 "its process ended early")
    assert held["cuda"].state == cuda and (device == "cuda" or held["cuda"].says.startswith("not tried: its process"))


def test_a_gpu_build_without_a_gpu_is_no_failure(fakes: Fakes) -> None:
    fakes.changed("onnxruntime", PROVIDERS)
    found = finding("onnxruntime", probe("onnxruntime", 0))
    assert found.state == "works" and states(found) == {"cpu": "works", "cuda": "absent"}
    assert found.devices[1].says == "no NVIDIA GPU was found"


def test_torch_may_know_of_gpus_that_no_tool_lists(monkeypatch: pytest.MonkeyPatch, fakes: Fakes) -> None:
    asked: list[tuple[str, int]] = []

    def some(name: str, gpus: int) -> Probe:
        asked.append((name, gpus))
        seen = {"version": "1", "says": [], "devices": ["cpu", "cuda", "cuda:1"], "absent": {}}
        done = [{"device": one, "works": True, "says": "ok", "seconds": 0.1} for one in seen["devices"]]
        return Probe(({"seen": seen}, *done)) if name == "torch" else Probe(({"missing": True},))

    monkeypatch.setattr("pixelsnail_infer.runtime.doctor.examination.probe", some)
    assert examine().healthy and asked == [("torch", 0), ("onnxruntime", 2), ("tensorrt", 2)]


def test_nothing_installed_is_no_health(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("torch", "onnxruntime", *NO_TENSORRT):
        fakes.missing(name)
    assert main(["doctor"]) == 1
    assert "Nothing here can run a model; install an engine as said above." in capsys.readouterr().out


def test_a_child_that_ends_badly_when_all_is_done() -> None:
    seen: dict[str, Any] = {"version": "1", "says": [], "devices": ["cpu"], "absent": {}}
    done = {"device": "cpu", "works": True, "says": "ok", "seconds": 0.1}
    found = finding("torch", Probe(({"seen": seen}, {"begins": "cpu"}, done), "its process was ended by signal 6"))
    assert found.state == "failed" and found.says == ("when all was done, its process was ended by signal 6",)


def test_an_engine_that_this_version_does_not_have_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelsnail_infer.runtime.doctor.examination.ENGINES", {})
    seen: dict[str, Any] = {"version": "10.1", "says": ["tensorrt 10.1"], "devices": ["cuda"], "absent": {}}
    found = finding("tensorrt", Probe(({"seen": seen},)))
    assert (found.state, found.devices) == ("unused", ()) and "does not use it" in found.says[-1]


def test_an_interrupt_ends_the_child(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Started(subprocess.Popen):  # type: ignore[type-arg]
        def wait(self, timeout: float | None = None) -> int:
            if not started:
                started.append(self)
                raise KeyboardInterrupt
            return super().wait(timeout)

    fakes.package("torch", "import time\ntime.sleep(600)")
    monkeypatch.setattr(subprocess, "Popen", Started)
    with pytest.raises(KeyboardInterrupt):
        probe("torch", 0)
    assert started[0].poll() is not None and os.name == "posix"
