"""Wrong exports: one thing changed in the staged program, or in the graphs before they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.export import artifacts, staging
from pixelsnail_infer.export.compile import Compiled
from pixelsnail_infer.export.emission import row as emit_row
from pixelsnail_infer.export.emission import step as emit_step
from pixelsnail_infer.export.emission import vocabulary as v
from pixelsnail_infer.export.emission.graph import Graph, Operation, Step, Value

Patch = pytest.MonkeyPatch
Edit = Callable[[Graph, list[Step]], None]


def change_program(patch: Patch, change: Callable[[Compiled], None]) -> None:
    """The export compiles as always, then `change` breaks what came out."""
    compile_model = staging.compile_model

    def broken(*args: Any) -> Compiled:
        compiled = compile_model(*args)
        change(compiled)
        return compiled

    patch.setattr(staging, "compile_model", broken)


def change_graph(patch: Patch, part: str, edit: Edit) -> None:
    """One graph is decided as always, then edited."""
    build_part = artifacts.build_part

    def broken(compiled: Compiled, name: str) -> Graph:
        graph = build_part(compiled, name)
        if name != part:
            return graph
        steps = list(graph.steps)
        edit(graph, steps)
        assert tuple(steps) != graph.steps
        return replace(graph, steps=tuple(steps))

    patch.setattr(artifacts, "build_part", broken)


def find(steps: list[Step], kind: type[Operation], start: str = "", fn: str | None = None) -> Iterator[Step]:
    """Steps of a kind whose first operand's name starts so; at least one."""
    found = [step for step in steps if type(step.operation) is kind and getattr(step.operation, "fn", None) == fn
             and next(step.operation.operands()).name.startswith(start)]
    assert found, f"no {kind} of {start!r}"
    yield from found


def change(steps: list[Step], step: Step, **fields: Any) -> None:
    """Other fields for an operation."""
    steps[steps.index(step)] = replace(step, operation=replace(step.operation, **fields))


def feed(steps: list[Step], step: Step, name: str, *chain: tuple[v.BinaryFn, float]) -> None:
    """Put operations with a constant before one operand."""
    value = getattr(step.operation, name)
    for fn, number in chain:
        place = steps.index(step)
        constant, result = (Value(f"new.{len(steps)}.{k}", value.kind) for k in range(2))
        array = np.array([number], np.float32 if value.kind == "float" else np.int64)
        steps[place:place] = [Step(v.Constant(constant.name, array), (constant,), ""),
                              Step(v.Binary(fn, value, constant), (result,), "")]
        value = result
    change(steps, step, **{name: value})


def size(graph: Graph, name: str, axis: int) -> int:
    (found,) = (entry.shape[axis] for entry in graph.inputs if entry.value.name == name)
    return int(str(found).removeprefix("K"))  # of a cache that grows the full length


def next_address(role: str) -> Edit:
    """Every write of a state goes one position too far."""
    def edit(graph: Graph, steps: list[Step]) -> None:
        for step in find(steps, v.Write, f"state.{role}"):
            name = next(step.operation.operands()).name
            feed(steps, step, "start", ("add", 1), ("mod", size(graph, name, 2)))
    return edit


def lost_write(role: str) -> Edit:
    """The state's output is its input."""
    def edit(graph: Graph, steps: list[Step]) -> None:
        for step in find(steps, v.Write, f"state.{role}"):
            steps[steps.index(step)] = replace(step, operation=v.Copy(next(step.operation.operands())))
    return edit


def zero_write(role: str) -> Edit:
    def edit(graph: Graph, steps: list[Step]) -> None:
        for step in find(steps, v.Write, f"state.{role}"):
            feed(steps, step, "update", ("mul", 0.0))
    return edit


def next_column(name: str) -> Edit:
    """A row of results or noise is read one column too far."""
    def edit(graph: Graph, steps: list[Step]) -> None:
        for step in find(steps, v.Gather, name):
            feed(steps, step, "index", ("add", 1), ("mod", size(graph, name, 1)))
    return edit


def next_row(graph: Graph, steps: list[Step]) -> None:
    """The row graph reads rings as if it were one row further."""
    for step in find(steps, v.Binary, fn="mod"):
        feed(steps, step, "a", ("add", 1))


def not_strict(graph: Graph, steps: list[Step]) -> None:
    """Attention over earlier positions sees its own as well."""
    for step in find(steps, v.Binary, fn="lt"):
        change(steps, step, fn="le")


def given_where_drawn(graph: Graph, steps: list[Step]) -> None:
    (pixel,) = (output.value for output in graph.outputs if output.name == "pixel")
    (step,) = (step for step in steps if pixel in step.results)
    assert isinstance(step.operation, v.Where)
    change(steps, step, yes=step.operation.no, no=step.operation.yes)


def no_temperature(graph: Graph, steps: list[Step]) -> None:
    for step in find(steps, v.Unsqueeze, "temperature"):
        feed(steps, step, "value", ("min", 0.0), ("add", 1.0))


def rows_off_by_one(graph: Graph, steps: list[Step]) -> None:
    for step in find(steps, v.Binary, "rows", fn="sub"):
        feed(steps, step, "a", ("sub", 1))


def least_probable(graph: Graph, steps: list[Step]) -> None:
    (step,) = find(steps, v.Top)
    feed(steps, step, "value", ("mul", -1.0))


def other_label(graph: Graph, steps: list[Step]) -> None:
    (step,) = (step for step in steps if isinstance(step.operation, v.Gather) and step.operation.index.name == "label")
    feed(steps, step, "index", ("add", 1), ("mod", 3))


def without_taps(part: str, above: bool) -> Callable[[Patch], None]:
    """One graph is decided with one tap of every convolution zero; the others with all."""
    def install(patch: Patch) -> None:
        build_part = artifacts.build_part

        def broken(compiled: Compiled, name: str) -> Graph:
            network = compiled.program.order
            kept = [(n, n.attrs) for n in network if n.op in ("linear", "lookup") and n.frame is not None]
            if name == part:
                for node, attrs in kept:
                    offset = next((o for o in attrs["taps"] if (o[0] < 0) == above and o != (0, 0)), None)
                    if offset is not None:
                        node.attrs = {**attrs, "taps": {**attrs["taps"], offset: 0 * attrs["taps"][offset]}}
            graph = build_part(compiled, name)
            for node, attrs in kept:
                node.attrs = attrs
            return graph

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
