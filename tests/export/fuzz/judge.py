"""What the exporter makes of a random network, and whether that is right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pixelsnail_infer.errors import ModelError, NotCausalError, UnsupportedOpError
from pixelsnail_infer.export.analysis.row_forms import PLAIN
from pixelsnail_infer.export.analysis.wave import Wave
from pixelsnail_infer.export.compile import Compiled, compile_model
from pixelsnail_infer.export.proofs.interpret import run_staged
from pixelsnail_infer.export.proofs.wave_order import run_waves

from ..files import lanes
from ..files.drive import Driver
from .causal import Case

EXACT, GRAPHS, SINGLE, MOVED = 1e-9, 1e-8, 1e-4, 1e-12


@dataclass(frozen=True)
class Verdict:
    """`outcome`: exported, refused or wrong. `why`: the error, or what is wrong. `seen`: the oracle saw a leak."""

    outcome: str
    why: str = ""
    error: type[Exception] | None = None
    seen: bool = False


def given(case: Case, batch: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {spec.name: torch.randn(batch, *spec.shape, generator=generator, dtype=torch.float64)
            if spec.dtype.is_floating_point else
            torch.randint(spec.levels or 1, (batch, *spec.shape), generator=generator) for spec in case.inputs}


def logits(case: Case, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return case.net(*(x.clone() for x in inputs.values())).permute(0, 2, 3, 1)


def leaks(case: Case, images: int = 2) -> list[tuple[int, int]]:
    """(first changed position, earlier or equal prediction that moved), by the network alone."""
    positions = case.shape[0] * case.shape[1]
    before = given(case, images, 1)
    pixels = before["pixels"].flatten(-2)  # [images, (C,) P]
    levels = case.law.parameters
    other = pixels + torch.randn(pixels.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64) \
        if case.law.pixel_shape else (pixels + 1 + torch.arange(positions) % max(levels - 1, 1)) % levels
    changed = torch.cat([torch.where(torch.arange(positions) >= start, other, pixels) for start in range(positions)])
    inputs = {name: value.repeat(positions, *(1 for _ in value.shape[1:])) for name, value in before.items()}
    inputs["pixels"] = changed.view(-1, *before["pixels"].shape[1:])
    after = logits(case, inputs).reshape(positions, images, positions, -1)
    difference = (after - logits(case, before).reshape(1, images, positions, -1)).abs().amax((1, 3))
    return [(start, place) for start in range(positions) for place in range(start + 1)
            if not float(difference[start, place]) <= MOVED]


def judge(case: Case, graphs: bool = False, row_form: str = PLAIN) -> Verdict:
    """Export and replay; `graphs`: also as written, through ONNX Runtime, the row graph in a form of `ROW_FORMS`."""
    if not bool(logits(case, given(case, 2, 3)).isfinite().all()):
        return Verdict("refused", "the network itself gives numbers that are not finite")
    seen = leaks(case)
    if seen and case.leak is None:
        return Verdict("wrong", f"the generator made a leak: {seen[0]}")
    try:
        compiled = compile_model(case.net, lambda m, *x: m(*x), case.inputs, case.shape, case.law,
                                 wave=True)
    except ModelError as error:
        if case.leak is None and isinstance(error, NotCausalError):
            return Verdict("wrong", f"refused as not causal: {error}", type(error))
        return Verdict("refused", str(error), type(error), bool(seen))
    if seen:
        return Verdict("wrong", f"exported although changing pixels from {seen[0][0]} on moves {seen[0][1]}")
    compiled.row_form = row_form
    wrong = _interpreted(case, compiled) or (_written(case, compiled) if graphs else "")
    return Verdict("wrong", wrong) if wrong else Verdict("exported")


def allowed(case: Case, verdict: Verdict) -> bool:
    """Whether a refusal is one: a leak must be called one, or an operation that is not understood."""
    return not verdict.seen or verdict.error in (NotCausalError, UnsupportedOpError)


def _interpreted(case: Case, compiled: Compiled) -> str:
    for batch in (1, 3):
        inputs = given(case, batch, 10 + batch)
        found = _distance(run_staged(compiled.program, inputs, compiled.kept), logits(case, inputs))
        if not found < EXACT:
            return f"the staged program is off by {found:.2g}, batch {batch}"
        if compiled.wave is not None and not (found := _in_waves(case, compiled.wave, inputs)) < EXACT:
            return f"the wavefront program is off by {found:.2g}, batch {batch}"
    return ""


def _in_waves(case: Case, wave: Wave, inputs: dict[str, Tensor]) -> float:
    expected = logits(case, inputs)
    found = torch.full_like(expected, float("nan"))
    for row, col, values in run_waves(wave, inputs):
        found[:, row, col] = values
    return _distance(found, expected)


def _written(case: Case, compiled: Compiled) -> str:
    inputs = given(case, 2, 20)
    expected = logits(case, inputs)
    arrays = {name: value.numpy() for name, value in inputs.items()}
    pixels = arrays.pop("pixels")
    pixels = pixels.transpose(0, 2, 3, 1) if case.law.pixel_shape else pixels
    driver = Driver(compiled, "float64")
    driver.begin(2, arrays)
    found = _distance(torch.from_numpy(driver.replay(pixels, twice=True)), expected)
    if not found < GRAPHS:
        return f"the written steps are off by {found:.2g}"
    if not all(np.isfinite(held).all() for held in driver.held.values()):
        return "a state is not finite"
    if compiled.wave is not None:
        lanes.begin(driver, 2, arrays)
        found = _distance(torch.from_numpy(lanes.replay(driver, pixels, twice=True)), expected)
        if not found < GRAPHS:
            return f"the written waves are off by {found:.2g}"
    rows = case.shape[0] // 2
    driver.begin(2, arrays)
    score = driver.run("score", pixels=pixels, rows=np.full(2, rows))
    found = _distance(torch.from_numpy(score["logits"]), expected)
    if not found < GRAPHS:
        return f"the written score graph is off by {found:.2g}"
    driver.resume(score)
    found = _distance(torch.from_numpy(driver.replay(pixels, start=rows)[:, rows:]), expected[:, rows:])
    if not found < GRAPHS:
        return f"the steps after {rows} rows of the score graph are off by {found:.2g}"
    single = {name: value.astype(np.float32) if value.dtype.kind == "f" else value for name, value in
              {"pixels": pixels, **arrays}.items()}
    driver = Driver(compiled, "float32")  # in which convolutions are written as such
    driver.begin(2, {name: single[name] for name in arrays})
    score = driver.run("score", pixels=single["pixels"], rows=np.full(2, rows))
    found = _distance(torch.from_numpy(score["logits"]), expected)
    return "" if found < SINGLE else f"the score graph in float32 is off by {found:.2g}"


def _distance(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape, (a.shape, b.shape)
    return float((a - b).abs().max() / b.abs().max().clamp(min=1))
