"""ONNX Runtime's CUDA engine over a stand-in: captured graphs, their checks, and what is missing."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.errors import BackendError, EngineError, GraphFileError, PixelsnailError
from pixelsnail_infer.plan import INT8_PLAN
from pixelsnail_infer.runtime import Sampler, load
from pixelsnail_infer.runtime.backends.graphs import GraphSet
from pixelsnail_infer.runtime.backends.onnxruntime_cuda import CudaBackend
from pixelsnail_infer.runtime.backends.plans import check_plan
from pixelsnail_infer.runtime.files.graphfile import read_graph
from pixelsnail_infer.runtime.files.model_files import ModelFiles

from .cuda_stand_in import Binding, Engine, Session, rightly
from .synthetic import H, L, W, logits_of, sample_slowly

LABEL = np.array([0, 1, 2, 0, 1, 1])
CODES = np.random.default_rng(4).integers(0, L, (6, H, W))


@contextmanager
def opened(path: Path, engine: Engine) -> Iterator[Sampler]:
    files, backend = ModelFiles(path), CudaBackend(1, engine)
    with Sampler(files.manifest, backend, GraphSet(files, backend)) as sampler:
        yield sampler


@pytest.mark.parametrize("max_batch", [1, 4, 6])
def test_replayed_graphs_see_what_they_should(toy: Path, sampler: Sampler, max_batch: int) -> None:
    mask = np.zeros((6, H, W), bool)
    mask[:, :2] = True
    with opened(toy, Engine()) as cuda:
        drawn = cuda.sample(6, label=LABEL, known=CODES, known_mask=mask, max_batch=max_batch)  # states first
        assert np.array_equal(drawn, sample_slowly(6, LABEL, known=CODES, mask=mask))
        for label in (LABEL, 2):
            for settings in ({}, {"top_k": 2}):
                drawn = cuda.sample(6, label=label, max_batch=max_batch, **settings)
                assert np.array_equal(drawn, sample_slowly(6, label, **settings))
            found = cuda.replay(CODES, label=label, max_batch=max_batch, twice=True)
            assert np.array_equal(found, logits_of(CODES, label))
            assert np.array_equal(cuda.score(CODES, label=label, max_batch=max_batch),
                                  sampler.score(CODES, label=label))


def test_a_model_with_elu_draws_the_same(digits_graphs: dict[str, Path]) -> None:
    """The provider has no kernel of it: the graphs that are loaded are other ones."""
    engine = Engine()
    with load(digits_graphs["step"], threads=1) as cpu, opened(digits_graphs["step"], engine) as cuda:
        for settings in ({}, {"top_k": 4, "temperature": 0.7}):
            assert np.array_equal(cuda.sample(3, label=[1, 2, 3], **settings),
                                  cpu.sample(3, label=[1, 2, 3], **settings))


def test_what_is_captured_and_under_which_numbers(toy: Path) -> None:
    engine = Engine()
    with opened(toy, engine) as cuda:
        cuda.sample(3, label=0, max_batch=2)
        cuda.sample(2, label=0, top_k=2)
        cuda.score(CODES, label=LABEL)
    numbers = {name: {number for graph, number in engine.runs if graph == name} for name in engine.sessions}
    assert set(numbers) == {"step", "row", "filtered", "prologue", "score"}
    for name in ("prologue", "score"):
        assert numbers.pop(name) == {-1} and engine.sessions[name].provider["enable_cuda_graph"] == "0"
    captured = [number for found in numbers.values() for number in found - {-1}]
    assert len(set(captured)) == len(captured) and min(captured) > 0  # none of them twice, in whichever session
    assert [len(numbers[name] - {-1}) for name in ("step", "row", "filtered")] == [2, 3, 1]
    assert {session.provider["use_tf32"] for session in engine.sessions.values()} == {"0"}


def test_a_step_copies_one_number_there_and_the_pixels_back(toy: Path) -> None:
    engine = Engine()
    with opened(toy, engine) as cuda:
        cuda.sample(2, label=0)
        cuda.sample(2, label=0)
        batch = cuda._work.batch
        assert batch is not None
        run, before = batch.bound("step").run, Counter(engine.copies)
        while (batch.bound("step")._runs + 1) & batch.bound("step")._runs == 0:  # type: ignore[attr-defined]
            run()  # a run that is checked comes next
        before = Counter(engine.copies)
        batch.write("col", 1)
        run()
        batch.buffers["pixel"].pull()
        assert engine.copies - before == Counter({"to the device": 1, "to the host": 1})


# The check ------------------------------------------------------------------------------------------------------------


def nothing(session: Session, binding: Binding, count: int) -> None:
    """Does not run what was captured."""


def stale(session: Session, binding: Binding, count: int) -> None:
    """Sees the column, or row, that there was at the capture."""
    name = "col" if session.name == "step" else "row"
    memory = binding.inputs[name].memory
    now = memory.copy()
    memory[...] = 0
    rightly(session, binding, count)
    memory[...] = now


def elsewhere(session: Session, binding: Binding, count: int) -> None:
    """Writes a second place of a state, after which everything else is right."""
    rightly(session, binding, count)
    state = next((value for name, value in binding.outputs.items() if name.endswith(".out")))
    state.memory[..., -1, :] += 1


def unwritten(session: Session, binding: Binding, count: int) -> None:
    """Gives the results, and leaves the states as they were."""
    states = [value.memory for name, value in binding.outputs.items() if name.endswith(".out")]
    before = [memory.copy() for memory in states]
    rightly(session, binding, count)
    for memory, held in zip(states, before, strict=True):
        memory[...] = held


def off(session: Session, binding: Binding, count: int) -> None:
    """Gives slightly other results."""
    rightly(session, binding, count)
    for name in ("logits", "row_result"):
        if name in binding.outputs:
            binding.outputs[name].memory[...] += 0.01


def later(session: Session, binding: Binding, count: int) -> None:
    """Is right for a while."""
    (nothing if count > 4 and session.name == "step" else rightly)(session, binding, count)


@pytest.mark.parametrize("part", ["step", "row"])
@pytest.mark.parametrize("fault", [nothing, stale, elsewhere, unwritten, off])
def test_a_replay_that_differs_is_refused(fault: Callable[..., None], part: str, toy: Path) -> None:
    def replay(session: Session, binding: Binding, count: int) -> None:
        (fault if session.name == part else rightly)(session, binding, count)

    refused(toy, Engine(replay), f"the {part} graph: replayed as a CUDA graph, it gives another '")


def test_a_replay_that_goes_wrong_later_is_refused(toy: Path) -> None:
    refused(toy, Engine(later), "the step graph: replayed as a CUDA graph, it gives another 'logits'")


def refused(toy: Path, engine: Engine, says: str) -> None:
    """At this call, and, without a run of the graph, at every later one."""
    with opened(toy, engine) as cuda:
        for _ in range(2):
            with pytest.raises(EngineError, match=says):
                cuda.sample(2, label=0)
        engine.replay = rightly
        with pytest.raises(EngineError, match=says):
            cuda.sample(2, label=0)


def test_rounding_is_no_difference(toy: Path) -> None:
    def replay(session: Session, binding: Binding, count: int) -> None:
        rightly(session, binding, count)
        if session.name == "step":
            binding.outputs["logits"].memory[...] *= np.float32(1 + 1e-6)

    with opened(toy, Engine(replay)) as cuda:
        assert np.array_equal(cuda.sample(2, label=0), sample_slowly(2, 0))


def test_another_thread_captures_and_checks_anew(toy: Path) -> None:
    engine, said = Engine(), list[Any]()

    def call() -> None:
        try:
            said.append(cuda.sample(2, label=0))
        except PixelsnailError as error:
            said.append(error)

    with opened(toy, engine) as cuda:
        call()
        for fault in (rightly, nothing):
            engine.replay = fault
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()
    assert np.array_equal(said[0], said[1]) and isinstance(said[2], EngineError)


def test_an_error_during_a_check_is_told(toy: Path) -> None:
    def fails(session: Session, binding: Binding, count: int) -> None:
        raise RuntimeError("CUDA failure 700: an illegal memory access")

    says = "ONNX Runtime failed in the .* graph .CUDA failure 700"
    with opened(toy, Engine(fails)) as cuda, pytest.raises(EngineError, match=says):
        cuda.sample(2, label=0)


# What is missing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("engine", "says"), [
    (Engine(version="1.30.2"), "onnxruntime-gpu 1.30.2, whose CUDA graphs may give wrong results; install 1.31"),
    (Engine(version="1.9.0"), "onnxruntime-gpu 1.9.0, whose"), (Engine(version="nightly"), "onnxruntime-gpu nightly"),
    (Engine(unusable="[with ERRTYPE = x] CUDA failure 35: driver too old ; GPU=-1 ; file=x"),
     r"1.31.1 cannot use a GPU \(CUDA failure 35: driver too old\); it needs an NVIDIA driver"),
    (Engine(unusable="/src/x.cc:1 CUDA Provider not available, can't get"), r"\(CUDA Provider not available\)"),
    (Engine(unusable="something else"), r"cannot use a GPU \(something else\)"),
])  # fmt: skip
def test_what_is_missing_is_told(engine: Engine, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BackendError, match=says):
        CudaBackend(1, engine)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("version", ["1.31.0", "1.32.0.dev20261001", "2.0.1"])
def test_newer_versions_are_taken(version: str) -> None:
    assert CudaBackend(1, Engine(version=version)).device == "cuda"


def test_without_the_provider() -> None:
    engine = Engine()
    engine.available = ["AzureExecutionProvider", "CPUExecutionProvider"]
    with pytest.raises(BackendError, match="this ONNX Runtime has only AzureExecutionProvider, CPU"):
        CudaBackend(1, engine)


def test_nodes_that_have_no_place_on_the_gpu_are_named(toy: Path) -> None:
    says = r"has no place on the GPU for nodes of the step graph \(1 Concat, 2 Elu\); use device='cpu', or an archive"
    with pytest.raises(BackendError, match=says):
        CudaBackend(1, Engine(elsewhere=("Elu", "Concat", "Elu"))).load(read_graph(toy, "step graph"))
    files = ModelFiles(toy)
    CudaBackend(1, Engine(elsewhere=("Pad",))).load(files.open("score"))  # runs seldom


def test_what_cannot_be_loaded_and_what_falls_back(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match="fell back to CPUExecutionProvider, expected CUDAExecutionProvider"):
        CudaBackend(1, Engine(got=())).load(read_graph(toy, "step graph"))
    engine = Engine()
    monkeypatch.setattr(engine, "InferenceSession", lambda *_, **__: 1 / 0)
    with pytest.raises(GraphFileError, match="cannot be loaded by ONNX Runtime 1.31.1 .division by zero."):
        CudaBackend(1, engine).load(read_graph(toy, "step graph"))


def test_decoders_and_encoders_are_not_captured(chain: dict[str, Path]) -> None:
    """They run once for an image, and on batches of any size."""
    for kind in ("decoder", "encoder"):
        engine = Engine(elsewhere=("Pad",))
        CudaBackend(1, engine).load(read_graph(chain[kind], kind))
        assert [session.provider["enable_cuda_graph"] for session in engine.sessions.values()] == ["0"]


def test_int8_is_for_the_cpu() -> None:
    """Its kernels are: every node would be left to the CPU, and the capture fail with less to go by."""
    with pytest.raises(BackendError, match="device 'cuda' has no precision 'int8', only 'float32' and 'float16'"):
        check_plan(INT8_PLAN, CudaBackend, "top.onnx")  # type: ignore[arg-type]
