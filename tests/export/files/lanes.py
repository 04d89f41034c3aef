"""The wave graph driven as the contract page says, without the runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.export.artifacts import state_specs

from .drive import Arrays, Driver


def begin(driver: Driver, slots: int, conditions: Mapping[str, NDArray[Any]]) -> None:
    """States of a wave as before the first one, and the prologue."""
    assert driver.compiled.wave is not None
    driver.begin(slots, conditions)
    for name in [name for name in driver.held if name.startswith("state.")]:
        del driver.held[name]
    for spec in state_specs(driver.compiled.wave.layout, "float32"):
        driver.held[spec.name] = np.full((slots, *spec.shape), spec.initial, driver.wide)


def waves(shape: tuple[int, int], slope: int, lead: int) -> list[list[tuple[int, int]]]:
    """The positions of lanes that run together, in order."""
    height, width = shape
    by_time: dict[int, list[tuple[int, int]]] = {}
    for i in range(height):
        for j in range(-lead, width):
            by_time.setdefault(j + slope * i, []).append((i, j))
    return [by_time[t] for t in sorted(by_time)]


def replay(driver: Driver, images: NDArray[Any], twice: bool = False) -> NDArray[Any]:
    """Logits or parameters `[B, H, W, n]` under teacher forcing, after `begin`. `twice` runs every wave again, which
    must change nothing."""
    wave, law, slots = driver.compiled.wave, driver.compiled.distribution, len(images)
    assert wave is not None
    logits = np.zeros((*images.shape[:3], law.parameters), driver.wide)
    order = waves(images.shape[1:3], wave.slope, wave.lead)
    for start in range(0, len(order), wave.span):
        block = [lanes_of(places, slots) for places in order[start:start + wave.span]]
        if wave.span > 1:
            slot, i, j = (np.concatenate(parts) for parts in zip(*block, strict=True))
            for _ in range(1 + twice):
                driver.held["ahead"] = driver.run("ahead", slot=slot, row=i, col=j)["ahead"]
        place = 0
        for slot, i, j in block:
            given = {"slot": slot, "row": i, "col": j, "given": images[slot, i, j],
                     "use_given": np.ones(len(slot), bool), "temperature": np.ones(len(slot), driver.wide),
                     "noise": np.zeros((len(slot), law.noise_width), driver.wide),
                     "place": place + np.arange(len(slot))}
            place += len(slot)
            found, drawn = run_wave(driver, given, twice), j >= 0
            logits[slot[drawn], i[drawn], j[drawn]] = found[drawn]
    return logits


def lanes_of(places: list[tuple[int, int]], slots: int) -> tuple[NDArray[Any], ...]:
    """Slots, rows and columns of the lanes at these positions."""
    return tuple(np.array(one) for one in zip(*((b, *place) for place in places for b in range(slots)), strict=True))


def run_wave(driver: Driver, given: Arrays, twice: bool) -> NDArray[Any]:
    """One wave's logits `[M, n]`."""
    found = driver.run("wave", **given)
    if twice:
        before = {name: value.copy() for name, value in driver.held.items()}
        again = driver.run("wave", **given)
        assert all(np.array_equal(found[name], again[name]) for name in found)
        assert all(np.array_equal(driver.held[name], value) for name, value in before.items())
    assert np.array_equal(found["pixel"], given["given"])
    logits: NDArray[Any] = found["logits"]
    return logits


def with_slope(driver: Driver, slope: int) -> Driver:
    """The same graphs in another order."""
    assert driver.compiled.wave is not None
    return replace(driver, compiled=replace(driver.compiled, wave=replace(driver.compiled.wave, slope=slope)), held={},
                   engines={})
