"""Wrong exports: one thing changed in the staged program, or in the graphs as they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.export import artifacts, staging
from pixelsnail_infer.export.compile import Compiled
from pixelsnail_infer.export.emission import row as emit_row
from pixelsnail_infer.export.emission import step as emit_step
from pixelsnail_infer.export.emission.onnx_graph import GraphWriter

Patch = pytest.MonkeyPatch
Edit = Callable[[GraphWriter], None]


def change_program(patch: Patch, change: Callable[[Compiled], None]) -> None:
    """The export compiles as always, then `change` breaks what came out."""
    compile_model = staging.compile_model

    def broken(*args: Any) -> Compiled:
        compiled = compile_model(*args)
        change(compiled)
        return compiled

    patch.setattr(staging, "compile_model", broken)


def change_graph(patch: Patch, part: str, edit: Edit) -> None:
    """One graph is written as always, then edited."""
    build_part = artifacts.build_part

    def broken(compiled: Compiled, name: str) -> GraphWriter:
        writer = build_part(compiled, name)
        if name == part:
            edit(writer)
        return writer

    patch.setattr(artifacts, "build_part", broken)


def find(writer: GraphWriter, kind: str, start: str = "") -> Iterator[onnx.NodeProto]:
    """Nodes of a kind whose first input's name starts so; at least one."""
    found = [node for node in writer.nodes if node.op_type == kind and node.input[0].startswith(start)]
    assert found, f"no {kind} of {start!r}"
    yield from found


def feed(writer: GraphWriter, node: onnx.NodeProto, index: int, *steps: tuple[str, Any]) -> None:
    """Put operations with a constant before one input of a node."""
    place = next(k for k, other in enumerate(writer.nodes) if other is node)
    value = node.input[index]
    for number, (kind, constant) in enumerate(steps):
        name = f"{value}_{place}_{number}"
        writer.nodes.insert(place + number, helper.make_node(kind, [value, writer.constant(constant)], [name]))
        value = name
    node.input[index] = value


def size(writer: GraphWriter, name: str, axis: int) -> int:
    (info,) = (value for value in writer.inputs if value.name == name)
    return info.type.tensor_type.shape.dim[axis].dim_value


def next_address(role: str) -> Edit:
    """Every write of a state goes one position too far."""
    def edit(w: GraphWriter) -> None:
        for node in find(w, "TensorScatter", f"state.{role}"):
            feed(w, node, 2, ("Add", 1), ("Mod", size(w, node.input[0], 2)))
    return edit


def lost_write(role: str) -> Edit:
    """The state's output is its input."""
    def edit(w: GraphWriter) -> None:
        for node in find(w, "TensorScatter", f"state.{role}"):
            del node.input[1:], node.attribute[:]
            node.op_type = "Identity"
    return edit


def zero_write(role: str) -> Edit:
    def edit(w: GraphWriter) -> None:
        for node in find(w, "TensorScatter", f"state.{role}"):
            feed(w, node, 1, ("Mul", 0.0))
    return edit


def next_column(name: str) -> Edit:
    """A row of results or noise is read one column too far."""
    def edit(w: GraphWriter) -> None:
        for node in find(w, "Gather", name):
            feed(w, node, 1, ("Add", 1), ("Mod", size(w, name, 1)))
    return edit


def next_row(w: GraphWriter) -> None:
    """The row graph reads rings as if it were one row further."""
    for node in find(w, "Mod"):
        feed(w, node, 0, ("Add", 1))


def not_strict(w: GraphWriter) -> None:
    """Attention over earlier positions sees its own as well."""
    for node in find(w, "Less"):
        node.op_type = "LessOrEqual"


def given_where_drawn(w: GraphWriter) -> None:
    (node,) = (node for node in w.nodes if "pixel" in node.output)
    node.input[1], node.input[2] = node.input[2], node.input[1]


def no_temperature(w: GraphWriter) -> None:
    for node in find(w, "Unsqueeze", "temperature"):
        feed(w, node, 0, ("Min", 0.0), ("Add", 1.0))


def rows_off_by_one(w: GraphWriter) -> None:
    for node in find(w, "Sub", "rows"):
        feed(w, node, 0, ("Sub", 1))


def least_probable(w: GraphWriter) -> None:
    (node,) = find(w, "TopK")
    for attribute in node.attribute:
        attribute.i = 0 if attribute.name == "largest" else attribute.i


def other_label(w: GraphWriter) -> None:
    for node in (node for node in w.nodes if "label" in node.input):
        feed(w, node, list(node.input).index("label"), ("Add", 1), ("Mod", 3))


def without_taps(part: str, above: bool) -> Callable[[Patch], None]:
    """One graph is written with one tap of every convolution zero; the others with all."""
    def install(patch: Patch) -> None:
        build_part = artifacts.build_part

        def broken(compiled: Compiled, name: str) -> GraphWriter:
            network = compiled.program.order
            kept = [(n, n.attrs) for n in network if n.op in ("linear", "lookup") and n.frame is not None]
            if name == part:
                for node, attrs in kept:
                    offset = next((o for o in attrs["taps"] if (o[0] < 0) == above and o != (0, 0)), None)
                    if offset is not None:
                        node.attrs = {**attrs, "taps": {**attrs["taps"], offset: 0 * attrs["taps"][offset]}}
            writer = build_part(compiled, name)
            for node, attrs in kept:
                node.attrs = attrs
            return writer

        patch.setattr(artifacts, "build_part", broken)
    return install


def initial(role: str, value: float) -> Callable[[Patch], None]:
    """The margins of a canvas, and the rows above the image, hold another number."""
    def install(patch: Patch) -> None:
        specs = artifacts.state_specs

        def changed(*args: Any) -> Any:
            found = specs(*args)
            assert any(spec.role == role and spec.initial != value for spec in found)
            return tuple(replace(spec, initial=value) if spec.role == role else spec for spec in found)

        patch.setattr(artifacts, "state_specs", changed)
    return install


def no_guards(patch: Patch) -> None:
    """Values whose frame has not begun are computed all the same, in the row and step graphs."""
    for scope in (emit_row.RowScope, emit_step.StepScope):
        patch.setattr(scope, "guard", lambda self, node, value: value)


def small_rings(compiled: Compiled) -> None:
    """Line canvases hold a row less than taps reach."""
    layout = compiled.layout
    smaller = {c.name: replace(c, rows=c.rows - 1) for c in layout.canvases if c.rows > 1}
    assert smaller
    layout.canvases[:] = [smaller.get(c.name, c) for c in layout.canvases]
    layout.place = {node: (smaller.get(c.name, c), k) for node, (c, k) in layout.place.items()}


def read_before_write(compiled: Compiled) -> None:
    """Attention that includes its own position reads the caches as they were."""
    layout = compiled.layout
    assert any(cache.inclusive for cache in layout.caches)
    layout.caches[:] = [replace(cache, inclusive=False) for cache in layout.caches]
    layout.cache = {cache.member: cache for cache in layout.caches}


def dropped_tap(compiled: Compiled) -> None:
    node = next(n for n in compiled.program.order if n.op == "linear" and len(n.attrs.get("taps", ())) > 1)
    node.attrs = {**node.attrs, "taps": dict(list(node.attrs["taps"].items())[1:])}


def bias_behind_the_border(compiled: Compiled) -> None:
    """A convolution that is shifted shows its bias where it should show 0."""
    program = compiled.program
    assert program.guard
    program.border.update({node: torch.full((), 0.3) for node in program.guard if node.dtype.is_floating_point})


def bias_twice(compiled: Compiled) -> None:
    node = next(n for n in compiled.program.order if n.op == "linear" and n.attrs.get("bias") is not None)
    node.attrs = {**node.attrs, "bias": 2 * node.attrs["bias"]}


class Inclusive(nn.Module):
    """Attention over everything up to and including the position, over features that lie strictly before it."""

    levels, shape = 5, (4, 5)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.above, self.left = nn.Conv2d(5, 8, (2, 3)), nn.Conv2d(5, 8, (1, 2))
        self.query, self.key, self.value, self.out = (nn.Conv2d(8, n, 1) for n in (4, 4, 4, 5))
        self.register_buffer("hidden", torch.ones(20, 20).triu(1).bool())

    def forward(self, codes: Tensor) -> Tensor:
        x = F.one_hot(codes, 5).permute(0, 3, 1, 2).to(self.out.weight.dtype)
        above = F.pad(self.above(F.pad(x, [1, 1, 1, 0])), [0, 0, 1, 0])[:, :, :-1]
        x = F.elu(above + F.pad(self.left(F.pad(x, [1, 0, 0, 0])), [1, 0, 0, 0])[..., :-1])
        q, k, v = (f(x).flatten(2).transpose(1, 2) for f in (self.query, self.key, self.value))
        weights = torch.softmax((q @ k.transpose(1, 2)).masked_fill(self.hidden, float("-inf")), -1)
        mixed = (weights @ v).transpose(1, 2).reshape(-1, 4, 4, 5)
        return self.out(torch.cat([mixed, x[:, :4]], 1)) * np.float64(3.0)
