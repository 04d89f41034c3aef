"""The proofs that the graphs are the model: float64, float32 on the real files, drawn. The oracle is in `probe`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsnail_infer.distributions import draw
from pixelsnail_infer.errors import VerificationError
from pixelsnail_infer.export.compile import Compiled
from pixelsnail_infer.export.proofs.closeness import draw_distance, score_slack
from pixelsnail_infer.export.proofs.interpret import staged_rows
from pixelsnail_infer.export.proofs.reference import BATCH, MANY, Known, Reference
from pixelsnail_infer.runtime import Sampler

__all__ = ["BATCHES", "CLOSE", "EXACT", "LIMITS", "SECONDS", "Check", "drawn", "passed", "replayed", "verify_before",
           "verify_files"]

EXACT, CLOSE = 1e-9, 1e-4
LIMITS = {"float16": 2.0**-5, "bfloat16": 2.0**-2, "int8": 0.5}
"""Of replay and score. In half precision 32 times the distance of neighbouring numbers at 1. Measured were 9 times at
most, over the examples and the networks of the tests, in PyTorch, which rounds every activation."""
BATCHES = (1, BATCH)
HEAT = np.array([1.0, 0.3, 2.0], np.float32)  # temperatures of the images that are drawn
REPORT = "please report the model."
ADVICE = {
    "float16": "numbers beyond 65504 are infinite in float16, and others keep three digits: choose --precision "
               "bfloat16 or float32 for this model.",
    "int8": "products of int8 keep two digits: choose --precision float32 for this model, or calibrate on more images.",
    "bfloat16": "numbers keep two digits in bfloat16: choose --precision float16 or float32 for this model.",
}
SINGLY, SECONDS = 5.0, 15.0  # of the interpreter, per batch size: then it takes rows at once; then it stops


@dataclass(frozen=True, slots=True)
class Check:
    """One proof: what was measured against which limit, over how many positions."""

    name: str
    value: float
    limit: float
    positions: int
    detail: str

    @property
    def passed(self) -> bool:
        """Whether the value is a number within the limit."""
        return bool(np.isfinite(self.value)) and self.value <= self.limit


def verify_before(compiled: Compiled, reference: Reference, say: Callable[[str], None]) -> list[Check]:
    """Proof 2, before anything is written. Raises `VerificationError`."""
    checks = []
    for batch in reference.exact_batches:
        say(f"float64 reference interpreter, batch {batch}")
        checks.append(_float64(compiled, reference, batch))
    return passed(checks)


def verify_files(sampler: Sampler, reference: Reference, say: Callable[[str], None]) -> list[Check]:
    """Proofs 3 and 4, on the written files through the runtime. Raises `VerificationError`.

    Files of half precision are as close as that is; draws are confirmed from their own logits then.
    """
    advice, checks = ADVICE.get(sampler.manifest.precision, REPORT), list[Check]()
    try:
        for check in _checks(sampler, reference, say):
            checks += passed([check], advice)
    except VerificationError as error:
        if advice in (REPORT, str(error)[-len(advice):]):
            raise
        raise VerificationError(f"{error} {advice}") from error  # a graph was run twice and left infinite numbers
    return checks


def _checks(sampler: Sampler, reference: Reference, say: Callable[[str], None]) -> Iterator[Check]:
    for batch in BATCHES:
        known = reference.known(batch)
        say(f"replay through the row and step graphs, batch {batch}")
        yield replayed(sampler, known, twice=batch == 1)
        say(f"score graph, batch {batch}")
        yield _score(sampler, reference, known)
    filters = reference.distribution.filters
    if filters:
        say("replay through the row graph and the filtered step")
        yield replayed(sampler, known, filtered=True)
    yield from _continued(sampler, known if reference.positions <= MANY else reference.known(1), say)
    say("drawing, and confirming every draw by one PyTorch forward")
    yield drawn(sampler, reference)
    if filters:
        yield _filtered(sampler, reference, 3 if reference.positions <= MANY else 1)


def _limit(sampler: Sampler) -> float:
    return LIMITS.get(sampler.manifest.precision, CLOSE)


def _confirming(sampler: Sampler, reference: Reference, codes: NDArray[Any], conditions: Mapping[str, Any]
                ) -> NDArray[Any]:
    """The logits that draws are confirmed from: PyTorch's, or of half precision the graphs' own."""
    if sampler.manifest.precision in LIMITS:
        return sampler.replay(codes, **conditions)
    return reference.logits(codes, conditions)


def passed(checks: list[Check], advice: str = REPORT) -> list[Check]:
    """The checks. Raises `VerificationError`, which ends with `advice`, for the first that is not within its limit."""
    for check in checks:
        if not check.passed:
            what = f"{check.name} is {check.value:.3g}, at most {check.limit:.0e} was expected ({check.detail})"
            raise VerificationError(f"verification failed: {what}. Nothing was written; {advice}")
    return checks


def _float64(compiled: Compiled, reference: Reference, batch: int) -> Check:
    """The reference interpreter, states starting as NaN, against the full-image forward: position by position while
    that goes fast, then by whole rows."""
    codes, conditions, logits = reference.known(batch, torch.float64)
    expected = torch.from_numpy(logits)
    inputs = {compiled.program.pixel.attrs["name"]: reference.tensor(codes, torch.float64)}
    for name, value in conditions.items():
        tensor = torch.from_numpy(value)
        inputs[name] = tensor.double() if tensor.is_floating_point() else tensor
    worst, modes, started = 0.0, list[bool](), time.monotonic()

    def at_once() -> bool:
        modes.append(len(modes) > 0 and time.monotonic() - started > SINGLY)
        return modes[-1]

    for i, row in enumerate(staged_rows(compiled.program, inputs, compiled.kept, at_once)):
        difference = float((row - expected[:, i]).abs().max())
        worst = max(worst, difference) if np.isfinite(difference) else float("nan")
        if not np.isfinite(worst) or time.monotonic() - started > SECONDS:
            break
    scale = max(1.0, float(expected.abs().max()))
    detail = _covered(len(modes), sum(modes), codes.shape[1])
    return Check(f"float64 interpreter, batch {batch}", worst / scale, EXACT, len(modes) * codes.shape[2], detail)


def _covered(rows: int, at_once: int, height: int) -> str:
    covered = "every position" if rows == height else f"{rows} of {height} rows"
    return f"{covered}, {at_once} rows at once" if at_once else covered


def replayed(sampler: Sampler, known: Known, **how: bool) -> Check:
    """Replay through the written graphs, `how` as `Sampler.replay` has it, against PyTorch."""
    found = sampler.replay(known.images, **how, **known.conditions)
    worst = float(np.abs(found - known.logits).max() / known.logits.std())
    detail = "every position" + (", every graph run twice" if how.get("twice") else "")
    name = "replay, filtered step" if how.get("filtered") else f"replay, batch {len(found)}"
    name += ", in waves" if how.get("wavefront") else ""
    return Check(name, worst, _limit(sampler), found[0, ..., 0].size, detail)


def _score(sampler: Sampler, reference: Reference, known: Known) -> Check:
    """Likelihoods, by how much the logits would have to be off to explain the difference."""
    codes, conditions, logits = known
    found, expected = sampler.score(codes, **conditions), reference.distribution.log_probability(logits, codes)
    limit = _limit(sampler)
    slack = score_slack(reference.distribution, logits, codes, limit * float(logits.std()))
    worst = limit * float((np.abs(found - expected) / slack).max())
    return Check(f"score, batch {len(codes)}", worst, limit, found[0].size, "every position")


def _continued(sampler: Sampler, known: Known, say: Callable[[str], None]) -> Iterator[Check]:
    """Replay from the states that the score graph leaves after some rows, as completion does."""
    codes, conditions, logits = known
    height, width = codes.shape[1:3]
    limit = _limit(sampler)
    for rows in sorted({height // 2, height - 1} - {0}):
        say(f"replay after {rows} rows by the score graph")
        found = sampler.replay(codes, known_rows=rows, **conditions)[:, rows:]
        worst = float(np.abs(found - logits[:, rows:]).max() / logits.std())
        left = (height - rows) * width
        yield Check(f"replay after {rows} rows", worst, limit, left, "rows before by the score graph")


def drawn(sampler: Sampler, reference: Reference, name: str = "drawn", count: int = 3, seed: int = 0) -> Check:
    """Draw, then confirm every draw from one PyTorch forward on the result and the same noise."""
    _, conditions = reference.inputs(count, 30)
    heat = np.resize(HEAT, count)
    codes = sampler.sample(count, seed=seed, temperature=heat, **conditions)
    logits = _confirming(sampler, reference, codes, conditions)
    noise = reference.noise(count, seed)
    behind, other = draw_distance(reference.distribution, logits, noise, heat[:, None, None], codes)
    flips = int(other.sum())
    detail = f"{_images(count)}, {flips} near-ties flipped" if flips else f"{_images(count)}, every draw the same"
    return Check(name, float(behind.max() / logits.std()), CLOSE, behind[0].size, detail)


def _filtered(sampler: Sampler, reference: Reference, count: int, seed: int = 1) -> Check:
    """The same with top-k and top-p: which draws differ from the slow reference of `distributions`."""
    _, conditions = reference.inputs(count, 31)
    top_k, top_p = max(1, reference.distribution.parameters // 2), 0.9
    heat = np.resize(HEAT, count)
    codes = sampler.sample(count, seed=seed, temperature=heat, top_k=top_k, top_p=top_p, **conditions)
    logits = _confirming(sampler, reference, codes, conditions)
    expected = draw(logits, reference.noise(count, seed), heat[:, None, None], top_k, top_p)
    other = float((codes != expected).mean())
    detail = f"{_images(count)}, share of other draws; k {top_k}, p {top_p}"
    return Check("drawn, filtered", other, 0.01, codes[0].size, detail)


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
