"""A toy model with a closed form, as graph files by the contract and as plain NumPy: what the runtime is tested on.

    logits(i, j) = T1[left] + T2[above] + T3[two above] + C[label] + U · Σ_{i' ≤ i} m(i')
    m(i) = Σ_j above(i, j) / 64

A pixel outside the canvas counts as code L. All numbers are small multiples of 1/64, so float32 sums are exact in any
order and the graphs equal NumPy to the bit. State `ring` holds the last R rows with a margin column (written by the
step), `memory` holds m of every row (written by the row graph); both are wrong when a slot is not reset or a row is
skipped.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pixelsnail_infer import distributions, noise
from pixelsnail_infer.manifest import (
    METADATA_KEY,
    PART_KEY,
    CheckpointSpec,
    ConditionSpec,
    DistributionSpec,
    FileSpec,
    Manifest,
    ModelSpec,
    NoiseSpec,
    ParameterSpec,
    PixelSpec,
    PrologueSpec,
    RowResultSpec,
    StateSpec,
    sibling_path,
)  # fmt: skip

H, W, L, K, R = 4, 5, 6, 3, 3
WP = W + 1
_RNG = np.random.default_rng(20)
T1, T2, T3 = (_RNG.integers(-96, 96, (L + 1, L)).astype(np.float32) / 64 for _ in range(3))
C = _RNG.integers(-64, 64, (K, L)).astype(np.float32) / 64
U = np.arange(L, dtype=np.float32) / 2

_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "bool": TensorProto.BOOL}
RING, MEMORY = (1, R * WP, 1), (1, H, 1)
PROLOGUE = {"prologue.0": ("float32", ("B", L))}


# The closed form ------------------------------------------------------------------------------------------------------


def logits_of(codes: np.ndarray, label: np.ndarray | int) -> np.ndarray:
    """float32 [n, H, W, L] of codes [n, H, W]."""
    n = len(codes)
    left = np.concatenate([np.full((n, H, 1), L), codes[:, :, :-1]], axis=2)
    above = np.concatenate([np.full((n, 1, W), L), codes[:, :-1]], axis=1)
    above2 = np.concatenate([np.full((n, 2, W), L), codes[:, :-2]], axis=1)
    memory = np.cumsum(above.sum(axis=2), axis=1).astype(np.float32) / 64
    label = np.broadcast_to(label, (n,))
    base = T1[left] + T2[above] + T3[above2] + C[label][:, None, None]
    return (base + memory[:, :, None, None] * U).astype(np.float32)


def sample_slowly(
    n: int, label: Any, seed: Any = 0, temperature: Any = 1.0, top_k: Any = None, top_p: Any = None,
    known: np.ndarray | None = None, mask: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """What `Sampler.sample` must return, one pixel at a time from the full-image closed form."""
    codes = np.zeros((n, H, W), np.int64)
    keys = noise.image_keys(seed, n)
    for i in range(H):
        gumbel = noise.gumbel_row(keys, i, W, L)
        for j in range(W):
            seen = logits_of(codes, label)[:, i, j]
            heat = np.broadcast_to(np.float32(temperature), (n,))
            codes[:, i, j] = distributions.draw(seen, gumbel[:, j], heat, top_k, top_p)
            if known is not None and mask is not None:
                codes[:, i, j] = np.where(mask[:, i, j], known[:, i, j], codes[:, i, j])
    return codes


# The graphs -----------------------------------------------------------------------------------------------------------


class Builder:
    """Collects nodes and constants; `op` returns the name of the node's first output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def const(self, value: Any, dtype: str = "int64") -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def op(self, kind: str, *inputs: str, out: str | None = None, outputs: int = 1, **attributes: Any) -> Any:
        names = [out or f"v{len(self.nodes)}"] + [f"v{len(self.nodes)}_{k}" for k in range(1, outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def model(self, inputs: dict[str, Any], outputs: dict[str, Any], metadata: dict[str, str]) -> onnx.ModelProto:
        infos = [[helper.make_tensor_value_info(n, _TYPES[d], s) for n, (d, s) in t.items()] for t in (inputs, outputs)]
        graph = helper.make_graph(self.nodes, "toy", *infos, initializer=self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=11)
        helper.set_model_props(model, metadata)
        return model

    def ring_start(self, row: str) -> str:
        """Position of column 0 of a row's margin in the ring, [B]."""
        return self.op("Mul", self.op("Mod", row, self.const(R)), self.const(WP))

    def table(self, values: np.ndarray, index: str) -> str:
        return self.op("Gather", self.const(values, "float32"), index)


def prologue_graph() -> onnx.ModelProto:
    g = Builder()
    g.op("Gather", g.const(C, "float32"), "label", out="prologue.0")
    return g.model({"label": ("int64", ("B",))}, PROLOGUE, {PART_KEY: "prologue"})


def row_graph() -> onnx.ModelProto:
    g = Builder()
    columns = g.const(np.arange(1, WP)[None])  # [1, W]

    def above(rows: int) -> str:  # codes [B, W], `rows` rows up
        start = g.ring_start(g.op("Add", "row", g.const(R - rows)))
        index = g.op("Add", g.op("Unsqueeze", start, g.const([1])), columns)
        flat = g.op("Squeeze", "state.ring", g.const([1, 3]))  # [B, 1, R·WP, 1] → [B, R·WP]
        return g.op("GatherElements", flat, index, axis=1)

    near, far = above(1), above(2)
    total = g.op("Cast", g.op("ReduceSum", near, g.const([1]), keepdims=1), to=TensorProto.FLOAT)
    m = g.op("Unsqueeze", g.op("Mul", total, g.const(1 / 64, "float32")), g.const([1, 2]))  # [B, 1, 1, 1]
    memory = g.op("TensorScatter", "state.memory", m, "row", out="state.memory.out", axis=2)
    past = g.op("ReduceSum", memory, g.const([2, 3]), keepdims=0)  # [B, 1]
    drift = g.op("Mul", past, g.const(U[None], "float32"))  # [B, L]
    flat = g.op("Unsqueeze", g.op("Add", drift, "prologue.0"), g.const([1]))
    g.op("Add", g.op("Add", g.table(T2, near), g.table(T3, far)), flat, out="row_result")
    inputs = {"row": ("int64", ("B",)), **PROLOGUE, "state.ring": ("int64", ("B", *RING))}
    inputs["state.memory"] = ("float32", ("B", *MEMORY))
    outputs = {"row_result": ("float32", ("B", W, L)), "state.memory.out": ("float32", ("B", *MEMORY))}
    return g.model(inputs, outputs, {PART_KEY: "row"})


def step_graph(metadata: dict[str, str], filtered: bool = False) -> onnx.ModelProto:
    g = Builder()

    def column(name: str) -> str:  # [B, W, …] → [B, …]
        return g.op("Squeeze", g.op("Gather", name, "col", axis=1), g.const([1]))

    start = g.op("Add", g.ring_start("row"), "col")
    flat = g.op("Squeeze", "state.ring", g.const([1, 3]))
    left = g.op("Squeeze", g.op("GatherElements", flat, g.op("Unsqueeze", start, g.const([1])), axis=1), g.const([1]))
    g.op("Add", column("row_result"), g.table(T1, left), out="logits")
    heat = g.op("Unsqueeze", "temperature", g.const([1]))
    scores = g.op("Add", "logits", g.op("Mul", heat, column("noise")))
    drawn = filtered_draw(g, scores, heat, L) if filtered else g.op("ArgMax", scores, axis=1, keepdims=0)
    g.op("Where", column("use_given"), column("given"), drawn, out="pixel")
    cell = g.op("Unsqueeze", "pixel", g.const([1, 2, 3]))
    g.op("TensorScatter", "state.ring", cell, g.op("Add", start, g.const(1)), out="state.ring.out", axis=2)
    inputs = {
        "row": ("int64", ("B",)), "col": ("int64", (1,)), "row_result": ("float32", ("B", W, L)),
        "noise": ("float32", ("B", W, L)), "temperature": ("float32", ("B",)), "given": ("int64", ("B", W)),
        "use_given": ("bool", ("B", W)), "state.ring": ("int64", ("B", *RING)),
    }  # fmt: skip
    if filtered:
        inputs |= {"top_k": ("int64", ("B",)), "top_p": ("float32", ("B",))}
    outputs = {"logits": ("float32", ("B", L)), "pixel": ("int64", ("B",)), "state.ring.out": ("int64", ("B", *RING))}
    return g.model(inputs, outputs, metadata)


def filtered_draw(g: Builder, scores: str, heat: str, levels: int) -> str:
    """The pixel [B] drawn from `scores` [B, levels] among the levels that top-k and top-p leave."""
    one, zero = g.const(1, "float32"), g.const(0, "float32")
    ordered, order = g.op("TopK", "logits", g.const([levels]), axis=1, outputs=2)
    safe = g.op("Where", g.op("Greater", heat, zero), heat, one)
    share = g.op("Softmax", g.op("Div", ordered, safe), axis=1)
    keep = g.op("Less", g.const(np.arange(levels)[None]), g.op("Unsqueeze", "top_k", g.const([1])))
    mass = g.op("Where", keep, share, zero)
    before = g.op("CumSum", mass, g.const(1), exclusive=1)
    p = g.op("Unsqueeze", "top_p", g.const([1]))
    reached = g.op("Less", before, g.op("Mul", p, g.op("ReduceSum", mass, g.const([1]))))
    keep = g.op("And", keep, g.op("Or", reached, g.op("GreaterOrEqual", p, one)))
    kept = g.op("Where", keep, g.op("GatherElements", scores, order, axis=1), g.const(-np.inf, "float32"))
    return g.op("Squeeze", g.op("GatherElements", order, g.op("ArgMax", kept, axis=1), axis=1), g.const([1]))


def score_graph() -> onnx.ModelProto:
    g = Builder()
    batch = g.op("Shape", "rows")

    def border(*sizes: int) -> str:
        shape = g.op("Concat", batch, g.const(sizes), axis=0)
        return g.op("Expand", g.const(L), shape)

    def cut(axis: int, drop: int) -> str:
        return g.op("Slice", "pixels", g.const([0]), g.const([-drop]), g.const([axis]))

    left = g.op("Concat", border(H, 1), cut(2, 1), axis=2)
    above = g.op("Concat", border(1, W), cut(1, 1), axis=1)
    above2 = g.op("Concat", border(2, W), cut(1, 2), axis=1)
    m = g.op("Cast", g.op("ReduceSum", above, g.const([2])), to=TensorProto.FLOAT)
    m = g.op("Mul", m, g.const(1 / 64, "float32"))  # [B, H, 1]
    past = g.op("Unsqueeze", g.op("CumSum", m, g.const(1)), g.const([3]))
    extra = g.op("Add", g.op("Mul", past, g.const(U, "float32")), g.op("Unsqueeze", "prologue.0", g.const([1, 2])))
    tables = g.op("Add", g.op("Add", g.table(T1, left), g.table(T2, above)), g.table(T3, above2))
    g.op("Add", tables, extra, out="logits")
    chosen = g.op("Unsqueeze", "pixels", g.const([3]))
    picked = g.op("GatherElements", g.op("LogSoftmax", "logits", axis=3), chosen, axis=3)
    g.op("Squeeze", picked, g.const([3]), out="logprob")
    # After r rows, ring row k holds row i = (r - 1) - ((r - 1 - k) mod R), or nothing when i < 0.
    last = g.op("Unsqueeze", g.op("Sub", "rows", g.const(1)), g.const([1]))
    index = g.op("Sub", last, g.op("Mod", g.op("Sub", last, g.const(np.arange(R)[None])), g.const(R)))
    index = g.op("Unsqueeze", g.op("Add", g.op("Max", index, g.const(-1)), g.const(1)), g.const([2]))
    rows = g.op("Concat", border(1, WP), g.op("Concat", border(H, 1), "pixels", axis=2), axis=1)
    ring = g.op("GatherND", rows, index, batch_dims=1)
    g.op("Reshape", ring, g.const([-1, *RING]), out="state.ring.out")
    seen = g.op("Less", g.const(np.arange(H)[None]), g.op("Unsqueeze", "rows", g.const([1])))
    memory = g.op("Where", g.op("Unsqueeze", seen, g.const([2])), m, g.const(0, "float32"))
    g.op("Unsqueeze", memory, g.const([1]), out="state.memory.out")
    inputs = {"pixels": ("int64", ("B", H, W)), "rows": ("int64", ("B",)), **PROLOGUE}
    outputs = {
        "logprob": ("float32", ("B", H, W)), "logits": ("float32", ("B", H, W, L)),
        "state.ring.out": ("int64", ("B", *RING)), "state.memory.out": ("float32", ("B", *MEMORY)),
    }  # fmt: skip
    return g.model(inputs, outputs, {PART_KEY: "score"})


# The files ------------------------------------------------------------------------------------------------------------


def make_manifest(files: dict[str, FileSpec]) -> Manifest:
    return Manifest(
        kind="prior", model=ModelSpec("toy", {"rows": R}), pixel=PixelSpec("codes", L), shape=(H, W),
        conditions=(ConditionSpec("label", "class", (), "int64", K),),
        prologue=(PrologueSpec("prologue.0", (L,), "float32"),),
        states=(
            StateSpec("state.ring", RING, "int64", float(L), "pixels", "step"),
            StateSpec("state.memory", MEMORY, "float32", 0.0, "row", "row"),
        ),
        row_result=RowResultSpec(L), distribution=DistributionSpec("categorical"), noise=NoiseSpec(1, L),
        schedule="raster", target="generic", precision="float32", files=files, checkpoint=CheckpointSpec("0" * 64),
        parameters=ParameterSpec(100, 10, 50, 40), versions={"onnx": onnx.__version__}, verification={}, notes=("toy",),
    )  # fmt: skip


def file_spec(data: bytes) -> FileSpec:
    return FileSpec(hashlib.sha256(data).hexdigest(), len(data))


def build(without: tuple[str, ...] = (), **replaced: onnx.ModelProto) -> dict[str, bytes]:
    """Bytes by part ("step" and the siblings); parts `without` are left out, `replaced` ones exchanged."""
    graphs = {"row": row_graph(), "prologue": prologue_graph(), "score": score_graph()}
    graphs["filtered"] = step_graph({PART_KEY: "filtered"}, filtered=True)
    graphs.update({part: graph for part, graph in replaced.items() if part != "step"})
    parts = {part: graph.SerializeToString() for part, graph in graphs.items() if part not in without}
    manifest = make_manifest({part: file_spec(data) for part, data in parts.items()})
    step = replaced.get("step") or step_graph({})
    helper.set_model_props(step, {METADATA_KEY: manifest.to_json()})
    return {"step": step.SerializeToString(), **parts}


def write(folder: Path, parts: dict[str, bytes], name: str = "toy.onnx") -> Path:
    """Write the files; returns the path of the step file."""
    step = folder / name
    for part, data in parts.items():
        (step if part == "step" else sibling_path(step, part)).write_bytes(data)
    return step
