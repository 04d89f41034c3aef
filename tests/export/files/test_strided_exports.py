"""Networks with strides as verified files: drawn, gone on with, in engines whose slots are in rows of all phases."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from pixelsnail_infer.runtime import Engine, load
from pixelsnail_infer.runtime.backends.signature import signature
from pixelsnail_infer.runtime.drawing.batch import Batch

from ..zoo import LEVELS
from . import strided


@pytest.mark.parametrize("name", list(strided.SHAPES))
def test_an_engine_draws_what_sample_draws(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images join below any number of known rows, beside others that are in rows of other phases."""
    height, width = strided.SHAPES[name]
    rng, phases, plain = np.random.default_rng(1), set[int](), Batch.run_row

    def seen(batch: Batch, row: object) -> None:
        phases.add(len(set(np.atleast_1d(np.asarray(row) % 4))))
        plain(batch, row)  # type: ignore[arg-type]

    monkeypatch.setattr(Batch, "run_row", seen)
    with load(strided.exported(name), threads=1) as sampler, Engine(sampler, slots=3) as engine:
        tickets = []
        for number in range(3 * height):
            known = np.arange(height)[:, None] < np.full((height, width), number % height)
            asked = {"n": 1, "seed": number, "label": number % 3, "known_mask": known,
                     "known": rng.integers(0, LEVELS, (height, width))}
            tickets.append((asked, engine.submit(**asked)))
        for asked, ticket in tickets:
            assert np.array_equal(ticket.result(60), sampler.sample(**asked)), asked
    assert max(phases) > 1, "no two slots were in rows of different phases"


def test_formats_draw_the_same() -> None:
    with load(strided.exported("twice"), threads=1) as one, load(strided.exported("twice", "torchscript")) as other:
        assert np.array_equal(one.sample(3, seed=5, label=[0, 1, 2]), other.sample(3, seed=5, label=[0, 1, 2]))


def test_states_are_written_in_place() -> None:
    """The engine would warn, see the tests of graph files."""
    code = f"""
from pixelsnail_infer.runtime import load
with load({str(strided.exported("twice"))!r}, threads=1) as sampler:
    codes = sampler.sample(3, label=[0, 1, 2])
    sampler.replay(codes, label=[0, 1, 2], twice=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_row_results_are_those_of_the_manifest() -> None:
    """Values of a stride have a column for each of their own."""
    with load(strided.exported("twice"), threads=1) as sampler:
        manifest = sampler.manifest
    assert manifest.row_results and {spec.shape[0] for spec in manifest.row_results} == {2, 4}
    results = {name for name in signature(manifest, "row").outputs if name.startswith("row_result")}
    assert results == {"row_result", *(spec.name for spec in manifest.row_results)}
    assert results <= set(signature(manifest, "step").inputs)
    assert results - set(signature(replace(manifest, row_results=None), "row").outputs)
