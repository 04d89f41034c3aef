"""Caches that grow and shrink with the rows of the images in the slots: the same images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pixelsnail_infer.runtime import Engine, load
from pixelsnail_infer.runtime.drawing import states
from pixelsnail_infer.runtime.drawing.states import SlotStates

from .workload import check, random_request


def test_images_are_those_of_sample_while_caches_grow_and_shrink(
    digits_graphs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with load(digits_graphs["step"], threads=1) as whole:  # caches of a canvas this small have their full length
        rng = np.random.default_rng(5)
        requests = [random_request(whole.manifest, rng, 3) for _ in range(30)]
        monkeypatch.setattr(states, "_SHORTEST", 16)
        lengths, went = set[int](), set[str]()
        for name in ("reach", "shorten"):
            plain = getattr(SlotStates, name)

            def seen(self: SlotStates, rows: int, name: str = name, plain: object = plain) -> None:
                before = self.level
                plain(self, rows)  # type: ignore[operator]
                lengths.add(self.level)
                went.update([name] if self.level != before else [])

            monkeypatch.setattr(SlotStates, name, seen)
        with load(digits_graphs["step"], threads=1) as sampler, Engine(sampler, slots=4) as engine:
            assert check(whole, engine, requests) > 15
    assert lengths == {0, 1, 2, 3} and went == {"reach", "shorten"}


def test_known_rows_find_room_in_caches_that_are_short(
    digits_graphs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image joins an empty engine, whose caches hold two rows, below five rows that are known."""
    with load(digits_graphs["step"], threads=1) as whole:
        codes = np.random.default_rng(3).integers(0, whole.manifest.levels, whole.manifest.shape)
        asked = {"seed": 4, "label": 6, "known": codes, "known_mask": np.arange(8)[:, None] < np.full((8, 8), 5)}
        expected = whole.sample(1, **asked)
        monkeypatch.setattr(states, "_SHORTEST", 16)
        with load(digits_graphs["step"], threads=1) as sampler, Engine(sampler, slots=1) as engine:
            assert np.array_equal(engine.submit(1, **asked).result(60), expected)
