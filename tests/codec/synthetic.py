"""A toy two-level codec with a closed form, as graph files by the contract and as plain NumPy.

    image = TOP[top], every cell repeated 2×2, + BOTTOM[bottom]        (decoder)
    bottom = the number of CUTS that the image's first channel reaches; top = bottom at even rows and columns (encoder)

All numbers are small multiples of 1/64, so that the graphs equal NumPy to the bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pixelsnail_infer.codec import CodecManifest, CodesSpec, ImageSpec
from pixelsnail_infer.manifest import METADATA_KEY, CheckpointSpec, ModelSpec

H, W, C, L = 4, 6, 3, 5
_RNG = np.random.default_rng(7)
TOP = _RNG.integers(-32, 32, (L - 1, C)).astype(np.float32) / 64
BOTTOM = _RNG.integers(-64, 64, (L, C)).astype(np.float32) / 64
CUTS = np.array([-0.5, 0.0, 0.25, 0.5], np.float32)
_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
IMAGE = {"image": ("float32", ("B", H, W, C))}
CODES = {"top": ("int64", ("B", H // 2, W // 2)), "bottom": ("int64", ("B", H, W))}


def decode(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """float32 [n, H, W, C]."""
    return TOP[top].repeat(2, 1).repeat(2, 2) + BOTTOM[bottom]


def encode(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int64 [n, H / 2, W / 2] and [n, H, W]."""
    bottom = (image[..., :1] >= CUTS).sum(-1)
    return np.minimum(bottom[:, ::2, ::2], L - 2), bottom


def random_codes(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(0, L - 1, (n, H // 2, W // 2)), random.integers(0, L, (n, H, W))


def manifest(kind: str = "decoder", **changed: Any) -> CodecManifest:
    values: dict[str, Any] = dict(  # noqa: C408 - reads like the call
        kind=kind, model=ModelSpec("toy", {"factor": 2}), image=ImageSpec(C, (H, W)),
        codes=(CodesSpec("top", (H // 2, W // 2), L - 1), CodesSpec("bottom", (H, W), L)), precision="float32",
        checkpoint=CheckpointSpec("0" * 64), parameters=(2 * L - 1) * C, versions={"onnx": onnx.__version__},
        verification={"decode": {"value": 1e-6}}, notes=("toy",),
    )  # fmt: skip
    return CodecManifest(**{**values, **changed})


def _const(name: str, value: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value), name)


def _model(nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto], inputs: Any, outputs: Any) -> onnx.ModelProto:
    infos = [[helper.make_tensor_value_info(n, _TYPES[d], s) for n, (d, s) in t.items()] for t in (inputs, outputs)]
    graph = helper.make_graph(nodes, "toy", *infos, initializer=tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=11)


def decoder_graph() -> onnx.ModelProto:
    node = helper.make_node
    coarse = [f"fine_{axis}" for axis in (1, 2)]
    nodes = [
        node("Gather", ["TOP", "top"], ["coarse"]),
        node("Gather", ["coarse", "rows"], [coarse[0]], axis=1),
        node("Gather", [coarse[0], "columns"], [coarse[1]], axis=2),
        node("Gather", ["BOTTOM", "bottom"], ["detail"]),
        node("Add", [coarse[1], "detail"], ["image"]),
    ]
    tensors = [_const("TOP", TOP), _const("BOTTOM", BOTTOM), _const("rows", np.arange(H) // 2),
               _const("columns", np.arange(W) // 2)]
    return _model(nodes, tensors, CODES, IMAGE)


def encoder_graph() -> onnx.ModelProto:
    node = helper.make_node
    nodes = [
        node("Gather", ["image", "first"], ["grey"], axis=3),
        node("GreaterOrEqual", ["grey", "CUTS"], ["reached"]),
        node("Cast", ["reached"], ["counted"], to=TensorProto.INT64),
        node("ReduceSum", ["counted", "last"], ["bottom"], keepdims=0),
        node("Gather", ["bottom", "rows"], ["some"], axis=1),
        node("Gather", ["some", "columns"], ["few"], axis=2),
        node("Min", ["few", "highest"], ["top"]),
    ]
    tensors = [_const("first", [0]), _const("CUTS", CUTS), _const("last", [3]), _const("rows", np.arange(0, H, 2)),
               _const("columns", np.arange(0, W, 2)), _const("highest", L - 2)]
    return _model(nodes, tensors, IMAGE, CODES)


def build(kind: str = "decoder", **changed: Any) -> bytes:
    """The file's bytes; `changed` goes to the manifest."""
    model = decoder_graph() if kind == "decoder" else encoder_graph()
    helper.set_model_props(model, {METADATA_KEY: manifest(kind, **changed).to_json()})
    return model.SerializeToString()
