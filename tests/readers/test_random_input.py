"""A hundred hostile inputs for every reader: each is read right, or refused by one of the project's errors. The script
`benchmarks/fuzz_readers.py` tries them by the thousand, the engine too."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .cases import CASES


@pytest.mark.parametrize("kind", [kind for kind in CASES if kind != "engine"])
@settings(max_examples=100, derandomize=True, suppress_health_check=list(HealthCheck))
@given(random=st.randoms(use_true_random=False))
def test_hostile_input_is_read_right_or_refused(
    kind: str, random: Random, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "hostile"
    folder.mkdir(exist_ok=True)
    CASES[kind](random, folder)


@pytest.mark.parametrize("kind", CASES)
def test_every_reader_is_fed_good_and_bad_input(kind: str, tmp_path: Path) -> None:
    outcomes = {CASES[kind](Random(seed), tmp_path) for seed in range(60)}
    assert "read" in outcomes and len(outcomes) > 1
