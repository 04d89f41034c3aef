"""The vocabulary is closed: every writer has every operation and no other, and each one is used and checked."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from pixelsnail_infer.export.artifacts import build_part
from pixelsnail_infer.export.emission import maps
from pixelsnail_infer.export.emission import vocabulary as v
from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.graph import Graph, Operation, Value
from pixelsnail_infer.export.evaluation.torch_ops import MAPS
from pixelsnail_infer.export.plans import TEST_PLAN
from pixelsnail_infer.export.writing import onnx_spelling, torch_spelling
from pixelsnail_infer.export.writing.onnx_writer import write_onnx

from ..gate import compiled
from ..networks import NETWORKS
from . import eager
from .drive import Driver
from .held import faults

Table = dict[Any, Callable[..., Any]]

NAMES = (v.OPERATIONS, get_args(v.UnaryFn), get_args(v.BinaryFn), get_args(v.ReduceFn))
ONNX = (onnx_spelling.SPELLINGS, onnx_spelling.UNARY, onnx_spelling.BINARY, onnx_spelling.REDUCE)
TORCH = (torch_spelling.SPELLINGS, torch_spelling.UNARY, torch_spelling.BINARY, torch_spelling.REDUCE)
EAGER: tuple[Table, ...] = (eager.HANDLERS, eager.UNARY, eager.BINARY, eager.REDUCE)
# Networks that have all of it between them.
SHOW_ALL = ("condition_read_at_offsets", "rgb_rounded", "layer_norm_by_hand", "strict_nan_to_zero", "activation_abs",
            "activation_sigmoid", "inclusive_plain_fill", "raw_pixels_in_keys", "activation_relu", "activation_gelu",
            "activation_leaky_relu", "activation_gelu_tanh", "layer_norm_over_channels", "pooled_keys_of_rows_above")


def test_the_list_of_operations_is_the_file() -> None:
    kinds = {kind for _, kind in inspect.getmembers(v, inspect.isclass) if issubclass(kind, Operation)}
    assert kinds - {Operation} == set(v.OPERATIONS)


@pytest.mark.parametrize("tables", [ONNX, TORCH, EAGER], ids=["onnx", "torch", "eager"])
def test_every_writer_has_every_operation_and_no_other(tables: tuple[dict[Any, Any], ...]) -> None:
    assert [set(table) for table in tables] == [set(names) for names in NAMES]


def test_every_elementwise_operation_of_a_program_is_emitted() -> None:
    assert set(maps.EMITTED) == set(MAPS)


@functools.cache
def driver(name: str) -> Driver:
    net = NETWORKS[name]
    return Driver(compiled(net, net.shapes[-1]), "float64", eager.Eager, spoil=True)


@functools.cache
def used(name: str) -> frozenset[Any]:
    """Operations, and functions, of a network's graphs."""
    program, found = compiled(NETWORKS[name], NETWORKS[name].shapes[-1]), set[Any]()
    for part in ("row", "step", "score", *(["filtered"] if program.distribution.filters else []),
                 *(["prologue"] if program.prologue.crossing else []), *(["wave"] if program.wave else [])):
        for step in build_part(replace(program, plan=TEST_PLAN), part).steps:
            found |= {type(step.operation), (type(step.operation), getattr(step.operation, "fn", None))}
    return frozenset(found)


def passes(name: str, anew: bool = False) -> bool:
    """Whether a network's graphs give what they should; `anew`: with constants that are made again."""
    run = driver.__wrapped__(name) if anew else driver(name)
    try:
        return not faults(run, NETWORKS[name], NETWORKS[name].shapes[-1], 2)
    except (AssertionError, IndexError, RuntimeError):
        return False


@pytest.mark.parametrize("name", SHOW_ALL)
def test_they_pass_as_they_are(name: str) -> None:
    assert passes(name)


def other(found: Any) -> Any:
    """Another result of the same kind."""
    if isinstance(found, tuple):
        return tuple(other(part) for part in found)
    return ~found if found.dtype.is_floating_point is False and found.dtype.itemsize == 1 else 2 * found + 1


INT8 = (v.OnGrid, v.GridConstant)  # not of networks but of a precision: see test_int8
KEYS = [(kind, kind, 0) for kind in v.OPERATIONS if kind not in INT8] + [
    ((kind, fn), fn, place) for place, kind in ((1, v.Unary), (2, v.Binary), (3, v.Reduce)) for fn in NAMES[place]]


@pytest.mark.parametrize(("key", "entry", "place"), KEYS, ids=lambda value: getattr(value, "__name__", None))
def test_every_operation_matters(key: Any, entry: Any, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each one is used, and a handler of it that gives something else is caught."""
    users = [name for name in SHOW_ALL if key in used(name)]
    assert users, f"nothing needs {entry}"
    right = EAGER[place][entry]
    monkeypatch.setitem(EAGER[place], entry, lambda *given: other(right(*given)))
    assert not all(passes(name, anew=key is v.Constant) for name in users)


def swapped(op: v.Border, at: Callable[[Value], Tensor]) -> Tensor:
    return eager._border(replace(op, left=op.right, right=op.left), at)


def one_later(op: v.Write, at: Callable[[Value], Tensor]) -> Tensor:
    size = at(op.state).shape[2] - at(op.update).shape[2] + 1
    return eager._write(op, lambda value: (at(value) + 1) % size if value is op.start else at(value))


def flipped(op: v.Convolve, at: Callable[[Value], Tensor]) -> Tensor:
    return eager._convolve(replace(op, kernel=v.Constant("", op.kernel.array[..., ::-1].copy())), at)


WRONG: dict[str, tuple[type[Operation], Callable[..., Any], str]] = {
    "border on the other side": (v.Border, swapped, "condition_read_at_offsets"),
    "written one position later": (v.Write, one_later, "raw_pixels_in_keys"),
    "state never written": (v.Write, lambda op, at: at(op.state), "raw_pixels_in_keys"),
    "sums that include their own place": (v.CumulativeSum, lambda op, at: at(op.value).cumsum(op.axis),
                                          "condition_read_at_offsets"),
    "the smallest first": (v.Top, lambda op, at: tuple(at(op.value).sort(dim=op.axis)), "condition_read_at_offsets"),
    "edges of an image not clipped": (v.Clip, lambda op, at: at(op.value), "rgb_rounded"),
    "zeros around a map that has another border": (
        v.Pad, lambda op, at: eager._pad(replace(op, fill=0), at), "pad_with_another_value"),
    "a kernel that is flipped": (v.Convolve, flipped, "rgb_rounded"),
}


@pytest.mark.parametrize(("kind", "broken", "name"), WRONG.values(), ids=WRONG)
def test_a_wrong_handler_is_caught(kind: type[Operation], broken: Callable[..., Any], name: str,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    assert passes(name)
    monkeypatch.setitem(eager.HANDLERS, kind, broken)
    assert not passes(name)


def graph_with(*extra: Callable[[GraphBuilder, Value, Value], object]) -> Graph:
    g = GraphBuilder("two", "float64")
    state, start = g.input("state", "float", ["B", 1, 4, 2]), g.input("start", "int", ["B"])
    g.output("state.out", g.write(state, g.slice(state, 0, 1, 2), start), ["B", 1, 4, 2])
    for more in extra:
        more(g, state, start)
    return g.graph()


@pytest.mark.parametrize("extra", [
    lambda g, state, start: g.output("late", g.mul(state, 2.0), ["B", 1, 4, 2]),
    lambda g, state, start: g.output("twice", g.write(state, g.slice(state, 1, 2, 2), start), ["B", 1, 4, 2]),
    lambda g, state, start: g.output("other.out", g.write(
        g.mul(g.input("other", "float", ["B", 1, 4, 2]), 2.0),
        g.slice(g.input("other", "float", ["B", 1, 4, 2]), 0, 1, 2), start), ["B", 1, 4, 2]),
], ids=["read after the write", "written twice", "not from an input to an output"])
def test_the_eager_writer_sees_states_that_cannot_be_written_in_place(extra: Any) -> None:
    eager.Eager(graph_with())
    with pytest.raises(AssertionError):
        eager.Eager(graph_with(extra))


def test_what_spells_two_operations_is_one_node() -> None:
    g = GraphBuilder("borders")
    x = g.input("x", "float", ["B", 3, 2])
    for left, right in ((1, 0), (0, 1)):
        g.output(f"y{left}", g.border(x, left, right, torch.tensor([1.0, 2.0])), ["B", 4, 2])
    kinds = [node.op_type for node in write_onnx(g.graph(), {}).graph.node]
    assert sorted(kinds) == ["Concat"] * 4 + ["Expand", "Shape"]


def test_equal_operations_are_one_and_constants_too() -> None:
    g = GraphBuilder("one")
    x = g.input("x", "float", ["B", 3])
    assert g.add(x, 1.0) == g.add(x, [1.0]) != g.add(x, 2.0)
    assert g.add(x, [1.0, 2.0, 3.0]) == g.add(x, [1.0, 2.0, 3.0])
    assert g.input("n", "int", ["B"]).kind == "int" and g.constant(1) != g.constant(1.0)
    g.output("y", g.add(x, 1.0), ["B", 3])
    g.output("z", g.add(x, 1.0), ["B", 3])  # the same value: a copy
    g.output("w", x, ["B", 3])
    graph = g.graph()
    assert len({output.value for output in graph.outputs}) == 3 and graph.weights == 3
    assert [type(step.operation) for step in graph.steps].count(v.Copy) == 2
