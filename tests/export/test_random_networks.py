"""Random networks, causal or leaking by construction: exported exactly or refused, and never wrong.

Thousands of them: `make fuzz` (`benchmarks/fuzz_exporter.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixelsnail_infer.export.analysis.row_forms import PLAIN, WINOGRAD
from pixelsnail_infer.export.compile import compile_model
from pixelsnail_infer.export.fields import Node

from .fuzz import judge as judging
from .fuzz.causal import Case, causal
from .fuzz.choices import Choices, seeded
from .fuzz.judge import allowed, judge, leaks
from .fuzz.leaks import PLANTS, leaking


def cases(make: Callable[[Choices], Case]) -> st.SearchStrategy[Case]:
    """Cases that shrink towards few and simple layers on small canvases."""
    @st.composite
    def draw_case(draw: st.DrawFn) -> Case:
        torch.manual_seed(draw(st.integers(0, 1000)))
        return make(Choices(lambda n: draw(st.integers(0, n - 1))))
    return draw_case()


def told(case: Case) -> str:
    return "\n".join(case.text)


def search(make: Callable[[Choices], Case], examples: int, check: Callable[[Case], None]) -> None:
    """`check` on so many cases, always the same ones."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    once = settings(max_examples=examples, derandomize=True, suppress_health_check=slow)
    once(given(cases(make))(check))()


def few_and(many: int) -> pytest.MarkDecorator:
    """A quarter of the cases each time, all of them with the slow checks."""
    return pytest.mark.parametrize("examples", [many // 4, pytest.param(many, marks=pytest.mark.full)])


@few_and(160)
def test_causal_ones_replay_exactly(examples: int) -> None:
    def check(case: Case) -> None:
        verdict = judge(case)
        assert verdict.outcome != "wrong", f"{verdict.why}\n{told(case)}"

    search(causal, examples, check)


@few_and(100)
@pytest.mark.parametrize("row_form", [PLAIN, WINOGRAD])
def test_causal_ones_replay_exactly_through_the_written_graphs(row_form: str, examples: int) -> None:
    def check(case: Case) -> None:
        verdict = judge(case, graphs=True, row_form=row_form)
        assert verdict.outcome != "wrong", f"{verdict.why}\n{told(case)}"

    search(causal, examples, check)


@few_and(160)
def test_leaking_ones_are_refused_or_replay_exactly(examples: int) -> None:
    def check(case: Case) -> None:
        verdict = judge(case)
        assert verdict.outcome != "wrong", f"{verdict.why}\n{told(case)}"
        assert allowed(case, verdict), f"{case.leak} was refused for another reason: {verdict.why}\n{told(case)}"

    search(leaking, examples, check)


def seeded_case(make: Callable[[Choices], Case], seed: int) -> Case:
    torch.manual_seed(seed)
    return make(seeded(seed))


def test_hardly_any_causal_one_is_refused() -> None:
    outcomes = Counter(judge(seeded_case(causal, seed)).outcome for seed in range(40))
    assert outcomes["exported"] > 36, outcomes


def test_every_kind_of_leak_is_seen_and_refused() -> None:
    """That is, the leaks are leaks: the network alone shows them."""
    seen: Counter[str] = Counter()
    for seed in range(100):
        case = seeded_case(leaking, seed)
        if leaks(case):
            seen[str(case.leak)] += 1
            verdict = judge(case)
            assert verdict.outcome == "refused" and allowed(case, verdict), f"{verdict}\n{told(case)}"
    assert {plant.__name__ for plant in PLANTS} == seen.keys()


@pytest.mark.parametrize("seed", [61048])  # a query cut into heads behind a pad: all but its first column was scaled
def test_what_was_wrong_once(seed: int) -> None:
    assert judge(seeded_case(causal, seed)).outcome == "exported"


def test_one_seed_makes_one_network() -> None:
    once, again = (seeded_case(causal, 5) for _ in range(2))
    assert once.text == again.text
    for a, b in zip(once.net.parameters(), again.net.parameters(), strict=True):
        assert torch.equal(a, b)


def leak_that_is_seen() -> Case:
    return next(case for case in (seeded_case(leaking, seed) for seed in range(20)) if leaks(case))


def test_an_exported_leak_would_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    good = seeded_case(causal, 5)
    program = compile_model(good.net, lambda m, *x: m(*x), good.inputs, good.shape, good.law)
    monkeypatch.setattr(judging, "compile_model", lambda *_, **__: program)
    verdict = judge(leak_that_is_seen())
    assert verdict.outcome == "wrong" and "exported although" in verdict.why


def test_a_wrong_number_would_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(*args: object, wave: bool) -> object:
        compiled = compile_model(*args)  # type: ignore[arg-type]
        node: Node = next(n for n in compiled.program.order if n.op == "linear" and n.where.module == "head")
        node.attrs["bias"] = node.attrs["bias"] + 1e-6 * torch.arange(1, len(node.attrs["bias"]) + 1)
        return compiled
    monkeypatch.setattr(judging, "compile_model", changed)
    verdict = judge(seeded_case(causal, 5))
    assert verdict.outcome == "wrong" and "staged program is off" in verdict.why


def test_a_leak_of_the_generator_would_be_wrong() -> None:
    case = leak_that_is_seen()
    case.leak = None
    verdict = judge(case)
    assert verdict.outcome == "wrong" and "the generator made a leak" in verdict.why
