"""Files that must not be loaded: damaged, unsafe, of another export, or of another model."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pixelsnail_infer.errors import BackendError, GraphFileError, ManifestError
from pixelsnail_infer.manifest import METADATA_KEY, PART_KEY, Manifest
from pixelsnail_infer.runtime import load
from pixelsnail_infer.runtime.files.graphfile import read_graph

from .synthetic import build, prologue_graph, row_graph, score_graph, step_graph, write


def model(*nodes: onnx.NodeProto, tensors: tuple[onnx.TensorProto, ...] = ()) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "g", [], [], initializer=list(tensors))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)])


def external() -> onnx.TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return tensor


def inside_an_if(node: onnx.NodeProto) -> onnx.NodeProto:
    branch = helper.make_graph([node], "branch", [], [])
    return helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)


def external_initializer() -> onnx.ModelProto:
    return model(tensors=(external(),))


def external_location_only() -> onnx.ModelProto:
    tensor = numpy_helper.from_array(np.ones(4, np.float32), "w")
    tensor.external_data.add(key="location", value="weights.bin")
    return model(tensors=(tensor,))


def external_constant() -> onnx.ModelProto:
    return model(helper.make_node("Constant", [], ["y"], value=external()))


def external_constant_in_a_subgraph() -> onnx.ModelProto:
    return model(inside_an_if(helper.make_node("Constant", [], ["y"], value=external())))


def external_sparse() -> onnx.ModelProto:
    made = model()
    made.graph.sparse_initializer.add().values.CopyFrom(external())
    return made


def custom_domain() -> onnx.ModelProto:
    return model(helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft"))


def custom_domain_in_a_subgraph() -> onnx.ModelProto:
    return model(inside_an_if(helper.make_node("Evil", ["x"], ["y"], domain="evil")))


def custom_opset() -> onnx.ModelProto:
    made = model()
    made.opset_import.append(helper.make_opsetid("evil", 1))
    return made


def local_function() -> onnx.ModelProto:
    made = model()
    made.functions.append(helper.make_function("", "F", ["x"], ["y"], [], [helper.make_opsetid("", 24)]))
    return made


def training() -> onnx.ModelProto:
    made = model()
    made.training_info.add()
    return made


@pytest.mark.parametrize(
    "make, message",
    [
        (external_initializer, "tensor data in another file"),
        (external_location_only, "tensor data in another file"),
        (external_constant, "tensor data in another file"),
        (external_constant_in_a_subgraph, "tensor data in another file"),
        (external_sparse, "tensor data in another file"),
        (custom_domain, "operators of the domain 'com.microsoft'"),
        (custom_domain_in_a_subgraph, "operators of the domain 'evil'"),
        (custom_opset, "operators of the domain 'evil'"),
        (local_function, "holds a function part"),
        (training, "holds a training part"),
    ],
)
def test_an_unsafe_file_is_refused(make: Callable[[], onnx.ModelProto], message: str, tmp_path: Path) -> None:
    data = make().SerializeToString()
    path = tmp_path / "a.onnx"
    path.write_bytes(data)
    for source in (data, path):
        with pytest.raises(GraphFileError, match=message):
            read_graph(source)
        with pytest.raises(GraphFileError, match=message):
            load(source, siblings={} if isinstance(source, bytes) else None)


def test_a_safe_file_is_read_with_its_metadata(parts: dict[str, bytes], toy: Path) -> None:
    step = read_graph(toy, digest=True)
    assert step.size == len(parts["step"]) and step.metadata.keys() == {METADATA_KEY}
    assert Manifest.from_json(step.metadata[METADATA_KEY]).files["row"].bytes == len(parts["row"])
    assert read_graph(parts["row"]).metadata == {PART_KEY: "row"}
    assert read_graph(model(inside_an_if(helper.make_node("Abs", ["x"], ["y"]))).SerializeToString()).metadata == {}


def test_every_truncation_is_refused(parts: dict[str, bytes]) -> None:
    data = parts["row"]
    for size in range(len(data)):
        if size in _complete(data):
            continue  # a prefix that ends between two fields and holds graph and opset is a whole message
        with pytest.raises(GraphFileError, match="truncated or damaged"):
            read_graph(data[:size])


def _complete(data: bytes) -> set[int]:
    sizes = set()
    for size in range(len(data)):
        try:
            made = onnx.ModelProto.FromString(data[:size])
        except Exception:
            continue
        if made.HasField("graph") and len(made.opset_import):
            sizes.add(size)
    return sizes


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_harmless(data: bytes) -> None:
    with pytest.raises(GraphFileError):
        read_graph(data)


@given(st.data())
def test_a_changed_byte_never_escapes_as_another_error(data: st.DataObject) -> None:
    whole = bytearray(build_row())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_graph(bytes(whole))
    except GraphFileError:
        pass


@functools.cache
def build_row() -> bytes:
    return row_graph().SerializeToString()


def test_a_missing_empty_or_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "text.onnx").write_text("hello, this is no model")
    for name, message in (("no", "does not exist"), ("empty", "is empty"), ("text", "is not a whole ONNX file")):
        with pytest.raises(GraphFileError, match=f"{name}.onnx {message}"):
            load(tmp_path / f"{name}.onnx")
    with pytest.raises(GraphFileError, match="cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize("part", ["row", "prologue"])
def test_a_missing_sibling_is_named(part: str, parts: dict[str, bytes], tmp_path: Path) -> None:
    step = write(tmp_path, {name: data for name, data in parts.items() if name != part})
    with pytest.raises(GraphFileError, match=rf"toy\.{part}\.onnx does not exist.*keep the files"):
        load(step)
    siblings = {name: data for name, data in parts.items() if name not in ("step", part)}
    with pytest.raises(GraphFileError, match=f"siblings lacks '{part}'"):
        load(parts["step"], siblings=siblings)


def test_score_and_filtered_are_needed_only_when_used(parts: dict[str, bytes], tmp_path: Path) -> None:
    step = write(tmp_path, {name: parts[name] for name in ("step", "row", "prologue")})
    with load(step, threads=1) as sampler:
        codes = sampler.sample(1, label=0)
        with pytest.raises(GraphFileError, match=r"toy\.score\.onnx does not exist"):
            sampler.score(codes, label=0)
        with pytest.raises(GraphFileError, match=r"toy\.filtered\.onnx does not exist"):
            sampler.sample(1, label=0, top_k=2)
        assert np.array_equal(sampler.sample(1, label=0), codes)


def test_an_export_without_a_part_says_so() -> None:
    parts = build(without=("score", "filtered"))
    with load(parts.pop("step"), siblings=parts, threads=1) as sampler:
        for call in (
            lambda: sampler.sample(1, label=0, top_p=0.5),
            lambda: sampler.bits_per_dim([[0] * 5] * 4, label=0),
        ):
            with pytest.raises(GraphFileError, match="This export has no (score|filtered) graph"):
                call()


@pytest.mark.parametrize("part", ["row", "prologue", "score", "filtered"])
def test_an_altered_sibling_is_refused(part: str, parts: dict[str, bytes], tmp_path: Path) -> None:
    altered = onnx.ModelProto.FromString(parts[part])
    altered.doc_string = "altered"
    step = write(tmp_path, {**parts, part: altered.SerializeToString()})
    with pytest.raises(GraphFileError, match=rf"toy\.{part}\.onnx is not the file that the manifest names"):
        with load(step, threads=1) as sampler:
            sampler.sample(1, label=0, top_k=2)
            sampler.score(np.zeros((4, 5), int), label=0)


def test_siblings_of_each_other_are_told_apart() -> None:
    swapped = build(row=prologue_graph(), prologue=row_graph())
    with pytest.raises(GraphFileError, match="says it is 'prologue', expected 'row'"):
        load(swapped["step"], siblings={name: data for name, data in swapped.items() if name != "step"})


def test_a_sibling_in_place_of_the_step_is_named(parts: dict[str, bytes], toy: Path) -> None:
    with pytest.raises(ManifestError, match="is the row part of an export; give the file without '.row'"):
        load(toy.with_name("toy.row.onnx"))
    with pytest.raises(ManifestError, match="has no manifest"):
        load(model().SerializeToString(), siblings={})
    with pytest.raises(ManifestError, match="version 2"):
        load(_with_manifest('{"format_version": 2}'), siblings={})


def _with_manifest(text: str) -> bytes:
    return step_graph({METADATA_KEY: text}).SerializeToString()


def _renamed(graph: onnx.ModelProto, old: str, new: str) -> onnx.ModelProto:
    text = graph.SerializeToString().replace(old.encode(), new.encode())
    return onnx.ModelProto.FromString(text)


def _reshaped(graph: onnx.ModelProto, name: str, axis: int, size: int) -> onnx.ModelProto:
    info = next(item for item in graph.graph.input if item.name == name)
    info.type.tensor_type.shape.dim[axis].dim_value = size
    return graph


@pytest.mark.parametrize(
    "part, make, message",
    [
        ("step", lambda: _renamed(step_graph({}), "use_given", "use_taken"), "input 'use_given' is missing"),
        ("step", lambda: step_graph({}, filtered=True), "input 'top_k' is not in the manifest"),
        ("step", lambda: _renamed(step_graph({}), "state.ring.out", "state.ring.two"), "'state.ring.out' is missing"),
        (
            "row",
            lambda: _reshaped(row_graph(), "state.memory", 0, 2),
            r"is float32 \[2, 1, 4, 1\], expected .*\[B, 1, 4, 1\]",
        ),
        ("row", lambda: _renamed(row_graph(), "state.memory", "state.memos1"), "is missing|not in the manifest"),
        ("prologue", lambda: _renamed(prologue_graph(), "label", "lobel"), "input 'label' is missing"),
        ("score", lambda: _renamed(score_graph(), "logprob", "logprod"), "output 'logprob' is missing"),
    ],
)
def test_a_graph_that_breaks_the_contract_is_refused(
    part: str, make: Callable[[], onnx.ModelProto], message: str
) -> None:
    parts = build(**{part: make()})
    with pytest.raises(GraphFileError, match=message):
        with load(parts.pop("step"), siblings=parts, threads=1) as sampler:
            sampler.score(np.zeros((4, 5), int), label=0)


def test_what_the_engine_refuses_is_one_error() -> None:
    bad = prologue_graph()
    bad.graph.node[0].op_type = "NoSuchOp"
    parts = build(prologue=bad)
    with pytest.raises(GraphFileError, match="the prologue graph cannot be loaded by ONNX Runtime"):
        load(parts.pop("step"), siblings=parts)


def test_wrong_use_of_load_is_named(parts: dict[str, bytes], toy: Path) -> None:
    siblings = {name: data for name, data in parts.items() if name != "step"}
    with pytest.raises(BackendError, match="device is 'tpu', expected 'cpu' or 'cuda'"):
        load(toy, device="tpu")
    with pytest.raises(BackendError, match="threads is 0"):
        load(toy, threads=0)
    with pytest.raises(GraphFileError, match="give siblings="):
        load(parts["step"])
    with pytest.raises(GraphFileError, match="siblings go with bytes"):
        load(toy, siblings=siblings)
    with pytest.raises(GraphFileError, match="the key 'rows'"):
        load(parts["step"], siblings={**siblings, "rows": b""})
    with pytest.raises(GraphFileError, match="is a int"):
        load(7)  # type: ignore[arg-type]


def test_cuda_never_falls_back(toy: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has the CUDA engine")
    with pytest.raises(BackendError, match="has only .*CPUExecutionProvider.*or use device='cpu'"):
        load(toy, device="cuda")


_WITHOUT = """
import importlib.abc, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused!r}:
            raise ImportError("refused: " + name)
sys.meta_path.insert(0, Refuse())
"""


def test_the_runtime_needs_neither_torch_nor_onnx_and_the_engine_has_no_complaint(toy: Path) -> None:
    refused = {"torch", "onnx", "onnxscript", "networkx", "PIL", "tqdm", "matplotlib", "hypothesis"}
    code = f"""{_WITHOUT.format(refused=refused)}
from pixelsnail_infer.runtime import load
with load({str(toy)!r}, threads=2) as sampler:
    codes = sampler.sample(3, label=[0, 1, 2], top_k=3)
    codes = sampler.sample(3, label=[0, 1, 2])
    sampler.replay(codes, label=0, twice=True)
    print(sampler.bits_per_dim(codes, label=0).shape)
assert not {refused!r} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "(3,)"), done.stderr
    assert done.stderr == "", "the engine warns, for example that in-place writing is not activated"


def test_a_state_that_is_not_written_in_place_is_heard(tmp_path: Path) -> None:
    """The test above would see the engine's warning: the same, with outputs in buffers of their own."""
    step = write(tmp_path, build())
    code = f"""
import onnxruntime as ort
from pixelsnail_infer.runtime.backends import onnxruntime_cpu
from pixelsnail_infer.runtime import load
original, buffer = onnxruntime_cpu.OrtGraph.bind, onnxruntime_cpu.CpuBuffer
def bind(self, inputs, outputs):
    apart = {{name: buffer(held.array.shape, held.array.dtype.name) for name, held in outputs.items()}}
    return original(self, inputs, apart)
onnxruntime_cpu.OrtGraph.bind = bind
with load({str(step)!r}, threads=1) as sampler:
    sampler.sample(1, label=0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "in-place" in done.stderr.lower(), done.stderr
