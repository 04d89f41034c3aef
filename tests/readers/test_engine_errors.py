"""What the engine raises while it runs becomes an `EngineError` that names the file and the graph, and the object that
was called works afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from pixelsnail_infer.errors import EngineError, GraphFileError, RequestError
from pixelsnail_infer.manifest import METADATA_KEY, PART_KEY
from pixelsnail_infer.runtime import Pipeline, Sampler, load, load_decoder, load_encoder
from pixelsnail_infer.runtime.backends import onnxruntime_cpu
from pixelsnail_infer.runtime.backends.onnxruntime_cpu import CpuBackend
from pixelsnail_infer.runtime.drawing import sampler as sampler_module
from pixelsnail_infer.runtime.files.graphfile import read_graph
from pixelsnail_infer.runtime.requests.request import count

from ..codec import synthetic as codec
from ..runtime import synthetic

CODES = np.zeros((1, synthetic.H, synthetic.W), np.int64)


def squared(graph: onnx.ModelProto, table: str, index: str) -> onnx.ModelProto:
    """The lookups of `index` look its square up instead: 0 and 1 stay, 2 and more are beyond the table."""
    for place, node in enumerate(graph.graph.node):
        if node.op_type == "Gather" and node.input[1] == index and table in ("", node.input[0]):
            node.input[1] = "squared"
            graph.graph.node.insert(place, helper.make_node("Mul", [index, index], ["squared"]))
            return graph
    raise AssertionError(f"nothing looks {index} up")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sampler]:
    """A sampler whose prologue fails for label 2."""
    graph = squared(synthetic.prologue_graph(), "", "label")
    path = synthetic.write(tmp_path_factory.mktemp("faulty"), synthetic.build(prologue=graph))
    with load(path, threads=1) as opened:
        yield opened


@pytest.mark.parametrize("call", [
    lambda sampler: sampler.sample(3, label=[0, 1, 2]),
    lambda sampler: sampler.sample(3, label=[0, 2, 1], max_batch=1, top_k=2),
    lambda sampler: sampler.replay(CODES, label=2),
    lambda sampler: sampler.score(CODES, label=2),
    lambda sampler: sampler.log_likelihood(CODES, label=2),
    lambda sampler: sampler.bits_per_dim(CODES, label=2),
    lambda sampler: Pipeline([sampler]).generate(3, label=[0, 1, 2]),
])  # fmt: skip
def test_a_graph_that_fails_names_itself_and_the_sampler_goes_on(
    faulty: Sampler, call: Callable[[Sampler], Any]
) -> None:
    message = r"toy\.prologue\.onnx: ONNX Runtime failed in the prologue graph \(.+\)"
    with pytest.raises(EngineError, match=message) as error:
        call(faulty)
    assert str(error.value).isprintable()
    labels = np.array([0, 1, 1])
    assert np.array_equal(faulty.sample(3, seed=4, label=labels), synthetic.sample_slowly(3, labels, 4))
    assert np.array_equal(Pipeline([faulty]).generate(1, seed=4, label=0).codes[0], synthetic.sample_slowly(1, 0, 4))


@pytest.mark.parametrize("part", ["row", "step", "filtered", "score"])
def test_every_graph_of_a_sampler_is_named(part: str) -> None:
    """A graph that looks 1e6 up in a table, whatever it is given."""
    metadata = {PART_KEY: part} if part != "step" else {}
    graph = {
        "row": synthetic.row_graph, "score": synthetic.score_graph, "step": lambda: synthetic.step_graph(metadata),
        "filtered": lambda: synthetic.step_graph(metadata, filtered=True),
    }[part]()  # fmt: skip
    target, name = ("row_result" if part == "row" else "logits"), "row" if part != "score" else "rows"
    graph.graph.initializer.extend([
        numpy_helper.from_array(np.array(10**6), "far"), numpy_helper.from_array(np.zeros(2, np.float32), "short"),
        numpy_helper.from_array(np.array([0]), "axis")])
    for node in graph.graph.node:
        for place, output in enumerate(node.output):
            node.output[place] = "before" if output == target else output
        for place, used in enumerate(node.input):
            node.input[place] = "before" if used == target else used
    graph.graph.node.extend([
        helper.make_node("Add", [name, "far"], ["beyond"]), helper.make_node("Gather", ["short", "beyond"], ["none"]),
        helper.make_node("ReduceMax", ["none", "axis"], ["most"], keepdims=0),
        helper.make_node("Add", ["before", "most"], [target])])
    parts = synthetic.build(**{part: graph})
    with load(parts.pop("step"), siblings=parts, threads=1) as sampler:
        for _ in range(2):
            with pytest.raises(EngineError, match=f"the {part} graph: ONNX Runtime failed in the {part} graph"):
                sampler.warm_up(1, filtered=True, score=True)
        with pytest.raises(EngineError, match=f"in the {part} graph"):
            if part == "score":
                sampler.score(CODES, label=0)
            else:
                sampler.sample(1, label=0, top_p=0.5 if part == "filtered" else None)


def test_a_codec_that_fails_names_itself_and_goes_on() -> None:
    graph = squared(codec.decoder_graph(), "BOTTOM", "bottom")
    helper.set_model_props(graph, {METADATA_KEY: codec.manifest().to_json()})
    top, bottom = codec.random_codes(2)
    with load_decoder(graph.SerializeToString(), threads=1) as decoder:
        with pytest.raises(EngineError, match="the decoder: ONNX Runtime failed in the decoder"):
            decoder.decode(top, np.full_like(bottom, codec.L - 1))
        assert np.array_equal(decoder.decode(top, bottom % 2), codec.decode(top, bottom % 2))


def test_memory_that_runs_out_is_told_and_the_next_call_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*arguments: Any, **named: Any) -> Any:
        raise MemoryError("Unable to allocate 9 TiB")

    parts = synthetic.build()
    codes = codec.random_codes(1)
    image = np.zeros((codec.H, codec.W, codec.C), np.float32)
    with (
        load(parts.pop("step"), siblings=parts, threads=1) as sampler,
        load_decoder(codec.build(), threads=1) as decoder,
        load_encoder(codec.build("encoder"), threads=1) as encoder,
    ):
        calls: list[Callable[[], Any]] = [
            lambda: sampler.sample(2, label=1), lambda: sampler.replay(CODES, label=1), lambda: sampler.warm_up(3),
            lambda: sampler.score(CODES, label=1), lambda: decoder.decode(*codes),
            lambda: encoder.encode(image), lambda: Pipeline([sampler]).generate(5, label=1),
        ]  # fmt: skip
        for call in calls:
            with monkeypatch.context() as patched:
                patched.setattr(onnxruntime_cpu, "aligned_zeros", none)
                with pytest.raises(EngineError, match=r"A buffer \w+ \[.*\], \d+ bytes, cannot be had on the cpu"):
                    call()
            with monkeypatch.context() as patched:
                patched.setattr(np, "full", none)
                patched.setattr(np, "empty", none)
                patched.setattr(np, "zeros", none)
                with pytest.raises(EngineError, match="Unable to allocate 9 TiB"):
                    call()
            call()
        assert np.array_equal(sampler.sample(2, label=1), synthetic.sample_slowly(2, 1))
        monkeypatch.setattr(sampler_module, "make_request", none)
        with pytest.raises(EngineError, match="sample ran out of memory .Unable to allocate 9 TiB.; ask for fewer"):
            sampler.sample(2, label=1)


def test_numbers_of_images_beyond_reason_are_refused() -> None:
    for value in (2**31, 10**30, 10**5000):
        with pytest.raises(RequestError, match="n is .{1,60}, expected an integer of at most 2147483647"):
            count(value, "n")


def test_the_engine_prints_nothing_besides(faulty: Sampler, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EngineError):
        faulty.sample(1, label=2)
    broken = synthetic.prologue_graph().SerializeToString().replace(b"Gather", b"Gathe\xff")
    with pytest.raises(GraphFileError, match="cannot be loaded by ONNX Runtime"):
        CpuBackend(1).load(read_graph(broken))
    assert capfd.readouterr() == ("", "")


def test_a_graph_that_runs_at_every_pixel_runs_without_options(faulty: Sampler) -> None:
    """ONNX Runtime's Python looks into run options at every run, which takes as long as some nodes."""
    batch = faulty._work.batch_of(1)
    step: Any = batch.bound("step")
    assert step._options is None
