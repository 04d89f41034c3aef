"""The TensorRT backend on a stand-in for the package and for CUDA: what it binds, captures, keeps and refuses."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from pixelsnail_infer.errors import BackendError, EngineError, GraphFileError
from pixelsnail_infer.runtime import Sampler, load, load_decoder
from pixelsnail_infer.runtime.backends import cuda_device, tensorrt_cuda, tensorrt_package
from pixelsnail_infer.runtime.backends.cuda_device import CudaDevice
from pixelsnail_infer.runtime.backends.tensorrt_cuda import TensorRtBackend
from pixelsnail_infer.runtime.backends.tensorrt_keeping import build_and_keep, engine_place
from pixelsnail_infer.runtime.codecs.codec import Decoder, read_codec
from pixelsnail_infer.runtime.files.graphfile import read_graph

from . import fake_tensorrt, synthetic
from .fake_cuda import FakeCuda, refuse
from .fake_tensorrt import FakeTensorRt
from .synthetic import H, L, W, logits_of, sample_slowly

LABEL = np.array([0, 1, 2, 0, 1, 1])
CODES = np.random.default_rng(4).integers(0, L, (6, H, W))
Patch = pytest.MonkeyPatch


@pytest.fixture
def fake() -> FakeTensorRt:
    return FakeTensorRt(FakeCuda())


@pytest.fixture
def model(parts: dict[str, bytes], tmp_path: Path) -> Path:
    """The toy's files in a folder of their own, where engines may be kept."""
    return synthetic.write(tmp_path, parts)


@pytest.fixture
def opened(fake: FakeTensorRt, model: Path, monkeypatch: Patch) -> Callable[..., Sampler]:
    """`load` with the backend tensorrt, on the stand-ins."""
    monkeypatch.setattr(tensorrt_cuda, "find_package", fake.package)
    monkeypatch.setattr(cuda_device, "_runtime", lambda: fake.cuda)
    monkeypatch.delenv("PIXELSNAIL_ENGINES", raising=False)
    return lambda **options: load(model, device=options.pop("device", "cuda"), backend="tensorrt", **options)


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt_rtx"])
@pytest.mark.parametrize("max_batch", [1, 4, 6])
def test_every_call_sees_what_it_should(opened: Callable[..., Sampler], fake: FakeTensorRt, sampler: Sampler, name: str,
                                        max_batch: int, monkeypatch: Patch) -> None:
    monkeypatch.setattr(tensorrt_cuda, "find_package", lambda: fake.package(name))
    mask = np.zeros((6, H, W), bool)
    mask[:, :2] = True
    with opened() as captured:
        for settings in ({}, {"top_k": 2}):
            drawn = captured.sample(6, label=LABEL, max_batch=max_batch, **settings)
            assert np.array_equal(drawn, sample_slowly(6, LABEL, **settings))
        assert np.array_equal(captured.replay(CODES, label=LABEL, max_batch=max_batch), logits_of(CODES, LABEL))
        assert np.array_equal(captured.score(CODES, label=LABEL, max_batch=max_batch),
                              sampler.score(CODES, label=LABEL))
        drawn = captured.sample(6, label=LABEL, known=CODES, known_mask=mask, max_batch=max_batch)
        assert np.array_equal(drawn, sample_slowly(6, LABEL, known=CODES, mask=mask))


@pytest.mark.parametrize("part", ["step", "row"])
def test_to_bind_a_graph_leaves_everything_as_it_is(fake: FakeTensorRt, model: Path, part: str) -> None:
    """Known rows are in the states when the step is first bound, and its inputs hold numbers of no meaning."""
    backend = TensorRtBackend("cuda", None, fake.package(), CudaDevice("cuda", fake.cuda))
    graph = backend.load(read_graph(model if part == "step" else model.with_name(f"toy.{part}.onnx")))
    infos = {name.removesuffix(".out"): info for name, info in (*graph.inputs.items(), *graph.outputs.items())}
    buffers = {name: backend.allocate(tuple(2 if size is None else size for size in info.shape), info.dtype)
               for name, info in infos.items()}  # fmt: skip
    held = {name: 3 if name.startswith("state.") else 1 for name in infos}  # a pixel that is given is 1
    for name, buffer in buffers.items():
        buffer.array[...] = held[name]
        buffer.push()
    bound = graph.bind(buffers, {name: buffers[name.removesuffix(".out")] for name in graph.outputs})
    for name, buffer in buffers.items():
        buffer.pull()
        assert (buffer.array == held[name]).all()
    bound.run()
    (state,) = (name.removesuffix(".out") for name in graph.outputs if name.startswith("state."))
    buffers[state].pull()
    assert (buffers[state].array != 3).any()


def test_known_rows_are_there_for_a_step_that_is_bound_late(opened: Callable[..., Sampler]) -> None:
    mask = np.zeros((6, H, W), bool)
    mask[:, :3] = True
    with opened() as captured:
        drawn = captured.sample(6, label=LABEL, known=CODES, known_mask=mask, top_p=0.5)
        assert np.array_equal(drawn, sample_slowly(6, LABEL, known=CODES, mask=mask, top_p=0.5))


def test_steps_are_one_launch_each_and_rows_one_wait(opened: Callable[..., Sampler], fake: FakeTensorRt) -> None:
    with opened() as captured:
        captured.sample(2, label=[0, 1])
        fake.cuda.launches = fake.cuda.waits = 0
        captured.sample(2, label=[0, 1])
        assert fake.cuda.waits == H
        assert fake.cuda.launches == H * W + H + 1  # steps, rows, the prologue


def test_engines_are_for_full_float32_and_the_gpu_at_hand(opened: Callable[..., Sampler], fake: FakeTensorRt) -> None:
    opened().close()
    assert len(fake.configs) == 3  # step, row and prologue
    for config in fake.configs:
        assert config.flags == {"REQUIRE_USER_ALLOCATION"} and config.capabilities == {0: "8.9"}
        (profile,) = config.profiles
        assert profile["row" if "row" in profile else "label"] == ((1,), (16,), (256,)) and "col" not in profile


def test_kept_engines_are_loaded_and_nothing_is_built(opened: Callable[..., Sampler], fake: FakeTensorRt, model: Path,
                                                      caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        opened().close()
    assert [record.args[2] for record in caplog.records] == ["there is none yet"] * 3  # type: ignore[index]
    assert sorted(path.name for path in model.parent.glob("*.engine")) == [
        "toy.prologue.tensorrt_rtx.engine", "toy.row.tensorrt_rtx.engine", "toy.tensorrt_rtx.engine",
    ]  # fmt: skip
    caplog.clear()
    with opened() as captured:
        assert np.array_equal(captured.sample(1, label=2), sample_slowly(1, 2))
    assert len(fake.configs) == 3 and not caplog.records


def test_timings_of_kernels_go_from_build_to_build(opened: Callable[..., Sampler], fake: FakeTensorRt, model: Path,
                                                   monkeypatch: Patch) -> None:
    monkeypatch.setattr(tensorrt_cuda, "find_package", lambda: fake.package("tensorrt", "11.0"))
    opened().close()
    assert [bytes(config.timings.serialize()) for config in fake.configs] == [b"+1", b"+1+1", b"+1+1+1"]
    assert {path.name for path in model.parent.glob("*.timing")} == {"tensorrt-Fake_GPU_9.timing"}
    assert (model.parent / "toy.tensorrt-Fake_GPU_9.engine").exists() and not fake.configs[0].capabilities


def test_another_gpu_gets_an_engine_that_serves_both(opened: Callable[..., Sampler], fake: FakeTensorRt,
                                                     caplog: pytest.LogCaptureFixture) -> None:
    opened().close()
    fake.cuda.capability = (12, 0)
    with caplog.at_level(logging.WARNING):
        opened().close()
    assert "because it was built for SM 8.9, this is SM 12.0; it is kept as" in caplog.text
    assert fake.configs[-1].capabilities == {0: "8.9", 1: "12.0"}


def test_another_model_gets_an_engine_for_batches_as_large(opened: Callable[..., Sampler], fake: FakeTensorRt,
                                                           model: Path, parts: dict[str, bytes]) -> None:
    package = fake.package()
    build_and_keep(package, engine_place(package, read_graph(model), "", None), ("8.9",), 512)
    step = onnx.load(str(model))
    step.doc_string = "another"
    model.write_bytes(step.SerializeToString())
    opened().close()
    assert [config.profiles[0]["row"][2] for config in fake.configs if "row" in config.profiles[0]] == [
        (512,), (512,), (256,)
    ]  # fmt: skip


def test_a_gpu_that_the_package_lacks_is_told(opened: Callable[..., Sampler], fake: FakeTensorRt) -> None:
    fake.cuda.capability = (9, 0)
    with pytest.raises(BackendError, match="tensorrt_rtx 1.7 has no SM 9.0, only 8.0, 8.9, 12.0"):
        opened()


def test_a_batch_beyond_the_engine_is_told(opened: Callable[..., Sampler], fake: FakeTensorRt) -> None:
    fake.largest = 4
    with opened() as captured:
        with pytest.raises(EngineError, match=r"is \[5.*, the engine was built for \[4.*larger --max-batch"):
            captured.sample(5, label=1, max_batch=5)
        assert np.array_equal(captured.sample(5, label=1, max_batch=4), sample_slowly(5, 1))


def test_a_state_that_is_not_in_place_is_refused(opened: Callable[..., Sampler], fake: FakeTensorRt) -> None:
    fake.aliases = False
    with pytest.raises(GraphFileError, match="does not write 'state.ring' in place; use the backend onnxruntime"):
        opened()


def test_what_cannot_be_captured_is_told(opened: Callable[..., Sampler], fake: FakeTensorRt) -> None:
    fake.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="lazy")  # type: ignore[misc]
    with opened() as captured, pytest.raises(EngineError, match="its work cannot be captured in a CUDA graph"):
        captured.sample(1, label=1)


def test_a_run_that_fails_is_told_and_a_capture_is_ended(opened: Callable[..., Sampler], fake: FakeTensorRt) -> None:
    with opened() as captured:
        fake.broken = True
        with pytest.raises(EngineError, match=r"toy.*onnx: TensorRT failed in the .*its run was refused: the run is"):
            captured.sample(1, label=1)
        fake.broken = False
        assert np.array_equal(captured.sample(1, label=1), sample_slowly(1, 1))
        right = fake.cuda.cudaStreamBeginCapture

        def begin(*given: int) -> Any:
            fake.broken = True
            return right(*given)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fake.cuda, "cudaStreamBeginCapture", begin)
            with pytest.raises(EngineError, match="its run was refused"):
                captured.sample(2, label=1)
        assert fake.cuda.recording is None
        fake.broken = False
        assert np.array_equal(captured.sample(2, label=1), sample_slowly(2, 1))


@pytest.mark.parametrize(
    "owner, name, answer, says",
    [(fake_tensorrt.Context, "infer_shapes", ["label"], "the shape of 'label' is not known"),
     (fake_tensorrt.Context, "get_tensor_shape", (7, 7), r"'prologue.0' is \[7, 7\], its buffer \[1, 6\]"),
     (fake_tensorrt.Context, "set_tensor_address", False, "the address of 'label' was refused"),
     (fake_tensorrt.Engine, "create_execution_context", None, "there is no context")],
)  # fmt: skip
def test_a_context_that_is_not_as_it_should_be_is_told(opened: Callable[..., Sampler], monkeypatch: Patch, owner: Any,
                                                       name: str, answer: Any, says: str) -> None:
    with opened() as captured:
        monkeypatch.setattr(owner, name, lambda *given: answer)
        with pytest.raises(EngineError, match=rf"toy.prologue.onnx: .*as its buffers were bound .{says}"):
            captured.sample(1, label=1)


@pytest.mark.parametrize("kind, place", [("BF16", "device"), ("FLOAT", "host")])
def test_tensors_of_other_kinds_and_places_are_refused(opened: Callable[..., Sampler], monkeypatch: Patch, kind: str,
                                                       place: str) -> None:
    right = fake_tensorrt.Engine.__init__

    def other(self: Any, *given: Any) -> None:
        right(self, *given)
        self.get_tensor_location, self.get_tensor_dtype = lambda name: place, lambda name: SimpleNamespace(name=kind)

    monkeypatch.setattr(fake_tensorrt.Engine, "__init__", other)
    with pytest.raises(GraphFileError, match=f"'row' is {kind} .{place}., expected float32, float16, int64 or bool on"):
        opened()


def test_copies_and_launches_that_fail_are_told(opened: Callable[..., Sampler], fake: FakeTensorRt) -> None:
    with opened() as captured:
        captured.sample(1, label=1)
        for name, says in {"cudaGraphLaunch": "TensorRT failed in the", "cudaMemcpyAsync": "Copying to the GPU failed",
                           "cudaStreamSynchronize": "Copying from the GPU failed"}.items():  # fmt: skip
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(fake.cuda, name, refuse)
                with pytest.raises(EngineError, match=rf"{says}.*{name}: it is broken.*load the model again"):
                    captured.sample(1, label=1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fake.cuda, "cudaMalloc", refuse)
            with pytest.raises(EngineError, match="cannot be had on the cuda .cudaMalloc: it is broken.; give a"):
                captured.sample(2, label=1)
        assert np.array_equal(captured.sample(2, label=1), sample_slowly(2, 1))


def test_everything_is_released_once(opened: Callable[..., Sampler], fake: FakeTensorRt) -> None:
    captured = opened()
    for size in (1, 2, 1):
        captured.sample(size, label=1, top_k=3)
    assert fake.cuda.memory and fake.cuda.ready
    captured.close()
    del captured
    gc.collect()
    assert not fake.cuda.memory and not fake.cuda.ready and not fake.cuda.graphs


def test_another_gpu_of_the_process_stays_current(opened: Callable[..., Sampler], fake: FakeTensorRt,
                                                  monkeypatch: Patch) -> None:
    seen, right = set(), fake.cuda.cudaGraphLaunch
    monkeypatch.setattr(fake.cuda, "cudaGraphLaunch", lambda *given: (seen.add(fake.cuda.current), right(*given))[1])
    with opened(device="cuda:1") as captured:
        assert np.array_equal(captured.sample(1, label=1), sample_slowly(1, 1))
    assert seen == {1} and set(fake.built_on) == {1} and fake.cuda.current == 0


def test_a_decoder_runs_too(fake: FakeTensorRt, chain: dict[str, Path], tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv("PIXELSNAIL_ENGINES", str(tmp_path))
    backend = TensorRtBackend("cuda", None, fake.package(), CudaDevice("cuda", fake.cuda))
    file, manifest = read_codec(chain["decoder"])
    codes = [np.random.default_rng(0).integers(0, spec.levels, (5, *spec.shape)) for spec in manifest.codes]
    with load_decoder(chain["decoder"]) as plain, Decoder(manifest, backend, backend.load(file)) as captured:
        assert np.array_equal(captured.decode(*codes), plain.decode(*codes))


def test_a_missing_gpu_or_driver_is_told(fake: FakeTensorRt, monkeypatch: Patch) -> None:
    fake.cuda.gpus = 1
    with pytest.raises(BackendError, match="device is 'cuda:1', but CUDA sees 1 GPUs; install an NVIDIA driver"):
        CudaDevice("cuda:1", fake.cuda)
    monkeypatch.setattr(fake.cuda, "cudaGetDeviceCount", refuse)
    with pytest.raises(BackendError, match=r"CUDA sees 0 GPUs \(it is broken\)"):
        CudaDevice("cuda", fake.cuda)


def test_missing_packages_are_told(model: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(tensorrt_package, "MODULES", {"no_such_tensorrt": "tensorrt"})
    says = r"TensorRT is not installed; install 'pixelsnail-infer\[tensorrt\]' or, for RTX GPUs, .*\[tensorrt-rtx\]'"
    with pytest.raises(BackendError, match=says):
        load(model, device="cuda", backend="tensorrt")
    monkeypatch.setattr(cuda_device, "_RUNTIME", "no_such_cuda")
    with pytest.raises(BackendError, match="CUDA's Python package cannot be imported .* install 'cuda-bindings'"):
        CudaDevice("cuda")


def test_an_old_package_is_told(monkeypatch: Patch) -> None:
    monkeypatch.setattr(tensorrt_package.importlib, "import_module", lambda name: SimpleNamespace(__version__="10.13"))
    with pytest.raises(BackendError, match="tensorrt 10.13 is too old: it has no layer that updates a cache in place"):
        tensorrt_package.find_package()


def test_the_cpu_and_archives_are_refused(model: Path, fake: FakeTensorRt, digits_archive: Path) -> None:
    with pytest.raises(BackendError, match="device is 'cpu', expected 'cuda', or 'cuda:1' and so on, which tensorrt"):
        load(model, backend="tensorrt")
    with pytest.raises(BackendError, match="backend is .tensorrt., which runs ONNX files, but .* is a TorchScript a"):
        load(digits_archive, device="cuda", backend="tensorrt")


def test_an_engine_that_tensorrt_refuses_is_told(fake: FakeTensorRt, model: Path, monkeypatch: Patch) -> None:
    backend = TensorRtBackend("cuda", None, fake.package(), CudaDevice("cuda", fake.cuda))
    monkeypatch.setattr(fake_tensorrt, "MAGIC", b"something else\n")
    backend.load(read_graph(model))
    monkeypatch.undo()
    with pytest.raises(GraphFileError, match="cannot load the engine .no engine.; build it again with"):
        backend.load(read_graph(model))
