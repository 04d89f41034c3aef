"""The command `build` with the real TensorRT for RTX, for GPUs that are not here."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pixelsnail_infer.errors import BackendError
from pixelsnail_infer.runtime import load
from pixelsnail_infer.runtime.backends.cuda_device import CudaDevice
from pixelsnail_infer.runtime.backends.tensorrt_engines import read_engine
from pixelsnail_infer.runtime.backends.tensorrt_keeping import engine_place
from pixelsnail_infer.runtime.backends.tensorrt_package import find_package
from pixelsnail_infer.runtime.files.graphfile import read_graph

pytestmark = pytest.mark.full
pytest.importorskip("tensorrt_rtx_bindings", reason="needs the tensorrt-rtx extra (make test-full)")


def test_the_command_builds_every_file_for_gpus_that_are_named(digits_graphs: dict[str, Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pixelsnail_infer", "build", str(digits_graphs["step"])]
    options = ["--sm", "8.0", "--sm", "8.9", "--sm", "12.0", "--max-batch", "32", "--engines", str(tmp_path)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    package = find_package()
    assert f"{len(digits_graphs)} engines for SM 8.0, 8.9, 12.0 by {package} in" in done.stdout
    for path in digits_graphs.values():
        place = engine_place(package, read_graph(path), "", 32, tmp_path)
        for target in ("8.0", "8.9", "12.0"):
            kept = read_engine(place.path, place.key, target)
            assert kept.plan is not None and kept.plan.startswith(b"vtrt"), kept.reason
        assert read_engine(place.path, place.key, "8.6").reason == "it was built for SM 8.0, 8.9, 12.0, this is SM 8.6"
        assert read_engine(place.path, replace(place.key, largest=64), "8.0").plan is None


def test_a_gpu_that_the_package_lacks_is_told(digits_graphs: dict[str, Path]) -> None:
    command = [sys.executable, "-m", "pixelsnail_infer", "build", str(digits_graphs["step"]), "--sm", "3.5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "has no SM 3.5, only 7.5, 8.0, 8.6, 8.9, 12.0, 12.1." in done.stderr


def test_without_a_gpu_loading_says_so(digits_graphs: dict[str, Path]) -> None:
    pytest.importorskip("cuda.bindings.runtime", reason="needs the tensorrt-rtx extra (make test-full)")
    try:
        CudaDevice("cuda")
        pytest.skip("this machine has a GPU")
    except BackendError:
        pass
    with pytest.raises(BackendError, match=r"device is 'cuda', but CUDA sees 0 GPUs \(.*\); install an NVIDIA driver"):
        load(digits_graphs["step"], device="cuda", backend="tensorrt")
