"""The gate catches what it is for: every analysis result is broken once, and the numbers must show it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import pytest
import torch

from pixelsnail_infer.export.analysis.stages import Stage
from pixelsnail_infer.export.fields import Edge, Node
from pixelsnail_infer.export.proofs import interpret
from pixelsnail_infer.export.proofs.interpret import run_staged

from .gate import TOLERANCE, Exported
from .looking import exported

NAMES = ("shifted_after_bias", "even_kernels", "activation_after_pad", "pad_with_another_value", "two_stack_pixelcnn",
         "strict_start_mask", "inclusive_plain_fill", "raw_pixels_in_keys", "over_rows_above", "label_one_hot",
         "shifted_condition", "shift_in_the_middle")

Mutation = tuple[str, Callable[[Exported], None]]


@cache
def original(name: str) -> Exported:
    return exported(name)


def caught(found: Exported) -> bool:
    """Whether the gate refuses, position by position and row by row: a wrong number, a NaN, or a read of what is not
    there."""
    return all(_refused(found, at_once) for at_once in (False, True))


def _refused(found: Exported, at_once: bool) -> bool:
    try:
        return not found.error(at_once=at_once) < TOLERANCE
    except (KeyError, IndexError, RuntimeError):
        return True


def mutants(name: str, make: Callable[[Exported], Iterator[Mutation]]) -> list[str]:
    """The mutations that `make` proposes and that the gate lets pass."""
    passed, tried = [], 0
    for number, (text, _) in enumerate(make(original(name))):
        mutant = copy.deepcopy(original(name))
        change = list(make(mutant))[number][1]
        change(mutant)
        tried += 1
        if not caught(mutant):
            passed.append(text)
    return passed


def tapped(found: Exported) -> list[Node]:
    return [n for n in found.program.order if n.pixel and "taps" in n.attrs]


def drop_taps(found: Exported) -> Iterator[Mutation]:
    for node in tapped(found):
        for offset in node.attrs["taps"]:
            def change(_: Exported, node: Node = node, offset: tuple[int, int] = offset) -> None:
                node.attrs["taps"] = {o: t * (o != offset) for o, t in node.attrs["taps"].items()}
            yield f"tap {offset} of {node}", change


def move_taps(found: Exported) -> Iterator[Mutation]:
    for node in tapped(found):
        def change(_: Exported, node: Node = node) -> None:
            node.attrs["taps"] = {(dy, dx - 1): tap for (dy, dx), tap in node.attrs["taps"].items()}
        yield f"taps of {node} one to the left", change


def change_borders(found: Exported) -> Iterator[Mutation]:
    for node in found.program.border:
        def change(mutant: Exported, node: Node = node) -> None:
            border = mutant.program.border[node]
            mutant.program.border[node] = border + 1 if border.is_floating_point() else border * 0
        yield f"border of {node}", change


def drop_guards(found: Exported) -> Iterator[Mutation]:
    for node in found.program.guard:
        def change(mutant: Exported, node: Node = node) -> None:
            del mutant.program.guard[node]
        yield f"guard of {node}", change


def drop_biases(found: Exported) -> Iterator[Mutation]:
    for node in tapped(found):
        shared = node.where.module.endswith("key")  # adds one number to all scores of a query: no effect
        if node.attrs["bias"] is not None and not shared:
            def change(_: Exported, node: Node = node) -> None:
                node.attrs["bias"] = None
            yield f"bias of {node}", change


def bias_in_both_parts(found: Exported) -> Iterator[Mutation]:
    for total in found.program.order:
        parts = [e.source for e in total.inputs]
        if total.attrs.get("fn") != "add" or [p.attrs.get("bias") is None for p in parts if p in tapped(found)] != \
                [False, True]:
            continue

        def change(_: Exported, parts: list[Node] = parts) -> None:
            parts[1].attrs["bias"] = parts[0].attrs["bias"]
        yield f"bias twice in {total}", change


def forget_states(found: Exported) -> Iterator[Mutation]:
    for node in found.kept:
        def change(mutant: Exported, node: Node = node) -> None:
            del mutant.kept[node]
        yield f"state of {node}", change


def keep_too_little(found: Exported) -> Iterator[Mutation]:
    for node, entry in found.kept.items():
        for name in ("rows", "left", "right", "row_reads", "step_reads", "inclusive"):
            if getattr(entry, name):
                def change(mutant: Exported, node: Node = node, name: str = name) -> None:
                    setattr(mutant.kept[node], name, getattr(mutant.kept[node], name) - 1)
                yield f"{name} of {node}", change


def earlier_stages(found: Exported) -> Iterator[Mutation]:
    for node in found.program.order:
        stage = found.program.stage[node]
        if stage not in (Stage.BEFORE, Stage.AFTER) or node is found.program.output or not node.inputs:
            continue

        def change(mutant: Exported, node: Node = node, stage: Stage = stage) -> None:
            mutant.program.stage[node] = Stage(stage - 1)
        yield f"stage of {node}", change


def early_pixels(found: Exported) -> Iterator[Mutation]:
    def change(mutant: Exported) -> None:
        assert mutant.program.latest[mutant.program.pixel] == (0, 0)
        mutant.program.latest[mutant.program.pixel] = (0, -1)
    yield "availability of the pixels", change


def move_reads(found: Exported) -> Iterator[Mutation]:
    """A positional constant or a condition map read one column off."""
    for node in found.program.order:
        for edge in node.inputs:
            if node.op == "shift":
                def change(_: Exported, edge: Edge = edge) -> None:
                    edge.dx -= 1
                yield f"{node} reads {edge.source} one to the left", change


def reach_further(found: Exported) -> Iterator[Mutation]:
    """Weighted sums that also read the key after the query: with a weight of zero, so that only its NaN shows."""
    width = found.program.shape[1]
    for mix, support in found.program.support.items():
        values = mix.inputs[1].source
        if min(found.program.stage[mix], found.program.stage[values]) > Stage.ROW and mix.inputs[1].pool is None:
            def change(mutant: Exported, mix: Node = mix, used: torch.Tensor = support.used) -> None:
                queries = torch.tensor([q for q in range(len(used)) if q % width < width - 1])
                used = used.index_put((queries, queries + 1), torch.tensor(True))
                mutant.program.support[mix] = replace(mutant.program.support[mix], used=used)
            yield f"reach of {mix}", change


@pytest.mark.parametrize("name", NAMES)
def test_what_lies_ahead_is_not_a_number(name: str) -> None:
    """A step that reads the next column of its own row, from a canvas that would hold it."""
    width = original(name).program.shape[1]
    for number, node in enumerate(original(name).program.order):
        if original(name).program.stage[node] > Stage.ROW and (0, -1) in node.attrs.get("taps", {}):
            mutant = copy.deepcopy(original(name))
            read = mutant.program.order[number]
            read.attrs["taps"] = {(0, 1): read.attrs["taps"][0, -1]}
            if mutant.program.stage[read.inputs[0].source] > Stage.ROW and read.op == "linear":
                mutant.kept[read.inputs[0].source].right = width
                for how in (bool, lambda: True):  # position by position, and rows at once
                    assert run_staged(mutant.program, mutant.given(2), mutant.kept, how).isnan().any(), node


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("make", [drop_taps, move_taps, change_borders, drop_guards, drop_biases, bias_in_both_parts,
                                  forget_states, keep_too_little, early_pixels, move_reads, reach_further],
                         ids=lambda f: f.__name__)
def test_caught(name: str, make: Callable[[Exported], Iterator[Mutation]]) -> None:
    assert mutants(name, make) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_value_computed_a_stage_too_early_is_caught(name: str) -> None:
    assert mutants(name, earlier_stages) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_stale_state_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each state written one position late."""
    found = original(name)
    keep = interpret._Run._keep
    for stale in found.kept:
        def late(run: interpret._Run, node: Node, value: torch.Tensor, i: int, columns: slice,
                 stale: Node = stale) -> None:
            if node is not stale:
                keep(run, node, value, i, columns)
            elif node in run.row:
                run.store[node][:, i] = value.roll(1, 1)
            else:
                end = min(columns.stop + 1, found.program.shape[1])
                run.store[node][:, i, columns.start + 1:end] = value[:, :end - columns.start - 1]
        monkeypatch.setattr(interpret._Run, "_keep", late)
        assert caught(found), stale
    monkeypatch.setattr(interpret._Run, "_keep", keep)
    assert not caught(found)
