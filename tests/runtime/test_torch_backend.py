"""The PyTorch engine: what is missing, errors, threads, and the CUDA engine over a stand-in for its stream."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pixelsnail_infer.errors import BackendError, EngineError, GraphFileError
from pixelsnail_infer.runtime import Sampler, load
from pixelsnail_infer.runtime.backends import choose_backend, choosing, open_backend, torch_cpu, torch_cuda
from pixelsnail_infer.runtime.backends.choosing import ENGINES
from pixelsnail_infer.runtime.backends.graphs import GraphSet
from pixelsnail_infer.runtime.backends.torch_cpu import TorchBackend
from pixelsnail_infer.runtime.backends.torch_cuda import TorchCudaBackend
from pixelsnail_infer.runtime.files.archive_files import ArchiveFiles
from pixelsnail_infer.runtime.files.graphfile import read_graph


class Steps:
    """In the place of a stream: work waits, as on a GPU, until somebody waits for it or reads."""

    place = torch.device("cpu")

    def __init__(self) -> None:
        self.inside = self.captures = self.waits = 0

    @contextmanager
    def here(self) -> Iterator[None]:
        self.inside += 1
        yield
        self.inside -= 1

    def wait(self) -> None:
        self.waits += 1

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        self.captures += 1

        def replay() -> None:
            assert self.inside
            work()

        return replay


@pytest.fixture(scope="module")
def plain(digits_archive: Path) -> Iterator[Sampler]:
    with load(digits_archive, threads=1) as sampler:
        yield sampler


@pytest.fixture
def queue() -> Steps:
    return Steps()


@pytest.fixture
def captured(digits_archive: Path, queue: Steps) -> Iterator[Sampler]:
    files, backend = ArchiveFiles(digits_archive), TorchCudaBackend("cuda", 1, queue)
    with Sampler(files.manifest, backend, GraphSet(files, backend)) as sampler:
        yield sampler


@pytest.mark.parametrize("max_batch", [2, 3])
def test_captured_graphs_see_what_they_should(plain: Sampler, captured: Sampler, queue: Steps, max_batch: int) -> None:
    """Buffers apart from the host, states that hold known rows when the step is first bound, which warms it up."""
    label = np.arange(3)
    codes = plain.sample(3, label=label)
    mask = np.arange(8)[:, None].repeat(8, 1) < 3
    for settings in ({"known": codes, "known_mask": mask, "seed": 1}, {}, {"top_k": 4}):
        drawn = captured.sample(3, label=label, max_batch=max_batch, **settings)
        assert np.array_equal(drawn, plain.sample(3, label=label, **settings))
    assert np.array_equal(captured.replay(codes, label=label, max_batch=max_batch, known_rows=5, twice=True)[:, 5:],
                          plain.replay(codes, label=label, max_batch=max_batch, known_rows=5)[:, 5:])
    assert np.array_equal(captured.score(codes, label=label, max_batch=max_batch),
                          plain.score(codes, label=label, max_batch=max_batch))
    assert queue.captures and not queue.inside


def test_the_host_waits_once_for_each_row(captured: Sampler, queue: Steps) -> None:
    captured.sample(2, label=[0, 1])
    queue.waits = 0
    captured.sample(2, label=[0, 1])
    assert queue.waits == 8


def test_a_capture_leaves_the_precision_of_the_process(captured: Sampler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    seen = []
    with torch_cuda.exactly():
        seen.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
    assert seen == [(False, False)] and torch.backends.cudnn.allow_tf32


def test_a_missing_gpu_is_told(digits_archive: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    for device in ("cuda", "cuda:1"):
        with pytest.raises(BackendError, match=f"device is '{device}', but PyTorch .* sees 0 GPUs; install"):
            load(digits_archive, device=device)


def test_wrong_names_are_told(digits_archive: Path, digits_graphs: dict[str, Path]) -> None:
    with pytest.raises(BackendError, match="backend is 'tpu', expected 'auto', 'onnxruntime', 'torch' or 'tensorrt'"):
        load(digits_archive, backend="tpu")
    with pytest.raises(BackendError, match="device is 'cuda:x', expected 'cpu' or 'cuda', or 'cuda:1' and so on"):
        load(digits_archive, device="cuda:x")
    with pytest.raises(BackendError, match="device is 'cuda:1', expected 'cpu' or 'cuda', which onnxruntime has"):
        load(digits_graphs["step"], device="cuda:1")
    with pytest.raises(BackendError, match="threads is 0"):
        load(digits_archive, threads=0)
    with pytest.raises(BackendError, match="which runs TorchScript archives, but .*onnx is an ONNX file; leave"):
        load(digits_graphs["step"], backend="torch")
    with pytest.raises(GraphFileError, match="is no TorchScript archive"):
        TorchBackend().load(read_graph(digits_graphs["step"]))


def test_an_error_of_the_engine_is_told_and_the_next_call_works(digits_archive: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    with load(digits_archive, threads=1) as sampler:
        expected = sampler.sample(1, label=3)
        batch = sampler._work.batch
        assert batch is not None
        batch.write("given", 1000)
        batch.write("use_given", True)
        batch.run_row(0)
        says = r"digits.pt: PyTorch failed in the row graph \(.*index out of range.*\). This call gave"
        with pytest.raises(EngineError, match=says):
            for column in range(8):
                batch.write("col", column)
                batch.bound("step").run()
                batch.run_row(1)
                batch.bound("step").run()
        assert np.array_equal(sampler.sample(1, label=3), expected)

        def none(*_: object) -> None:
            raise MemoryError("Unable to allocate 9 TiB")

        monkeypatch.setattr(torch_cpu, "aligned_zeros", none)
        with pytest.raises(EngineError, match="cannot be had on the cpu .Unable to allocate 9 TiB.; give a smaller"):
            sampler.sample(3, label=3)


def test_a_result_of_another_shape_is_no_broadcast() -> None:
    with pytest.raises(ValueError, match="a result is"):
        torch_cpu.keep([torch.zeros(1, 3)], [torch.ones(2, 3)])
    with pytest.raises(ValueError, match="a result is"):
        torch_cpu.keep([torch.zeros(3, dtype=torch.float64)], [torch.ones(3)])


def test_threads_are_put_back(digits_archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen, right = torch.get_num_threads(), set(), torch_cpu.keep
    monkeypatch.setattr(torch_cpu, "keep", lambda *given: (seen.add(torch.get_num_threads()), right(*given)))
    with load(digits_archive, threads=3) as sampler:
        sampler.sample(1, label=1)
    assert seen == {3} and torch.get_num_threads() == before
    with load(digits_archive) as sampler:
        sampler.sample(1, label=1)
    assert seen == {3, before} and torch.get_num_threads() == before


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_torch_is_not_imported_for_onnx_nor_onnxruntime_for_archives(digits_graphs: dict[str, Path],
                                                                     digits_archive: Path) -> None:
    code = "import sys\nfrom pixelsnail_infer.runtime import load\nload({!r}).sample(1, label=1)\nassert {!r} not in " \
           "sys.modules"
    run_python(code.format(str(digits_graphs["step"]), "torch"))
    run_python(code.format(str(digits_archive), "onnxruntime"))


def test_without_torch_the_extra_is_named_and_info_works(digits_archive: Path) -> None:
    assert "install 'pixelsnail-infer[torch]'" in run_python(f"""
import sys
sys.modules["torch"] = None
from pixelsnail_infer.__main__ import main
from pixelsnail_infer.runtime import load
assert main(["info", {str(digits_archive)!r}]) == 0
try:
    load({str(digits_archive)!r})
except Exception as error:
    print(type(error).__name__, error)
""")


@pytest.mark.parametrize("error", [ImportError("no module"), OSError("libcudart.so.12: cannot open")])
def test_what_cannot_be_imported_names_the_extra_and_the_doctor(error: Exception, monkeypatch: pytest.MonkeyPatch
                                                                ) -> None:
    def broken(device: str, threads: int | None) -> TorchBackend:
        raise error

    monkeypatch.setattr(choosing, "ENGINES", {name: replace(one, open=broken) for name, one in ENGINES.items()})
    for backend, device, extra in (("torch", "cuda:1", "torch"), ("onnxruntime", "cpu", "cpu"),
                                   ("onnxruntime", "cuda", "gpu")):
        says = rf"cannot be imported \({error}\); install 'pixelsnail-infer\[{extra}\]', and see what .*doctor` says"
        with pytest.raises(BackendError, match=says):
            open_backend(device, 1, backend)


def test_the_table_says_what_each_engine_has() -> None:
    auto = {engine.format: choose_backend("auto", engine.format, "f") for engine in ENGINES.values()}
    assert auto == {"onnx": "onnxruntime", "torchscript": "torch"}
    for name, engine in ENGINES.items():
        assert choose_backend(name, engine.format, "f") == name
        assert {device.partition(":")[0] for device in engine.devices} == set(engine.install)


def test_backends_of_both_kinds_can_be_opened() -> None:
    assert isinstance(open_backend("cpu", 1, "torch"), TorchBackend)
