"""Does an engine on a device compute what PyTorch computes, and draw what the CPU draws?"""

from __future__ import annotations

from typing import Any

import numpy as np
from models import Case
from numpy.typing import NDArray

from pixelsnail_infer.errors import VerificationError
from pixelsnail_infer.export.proofs.reference import Reference
from pixelsnail_infer.export.proofs.verify import CLOSE, verify_files
from pixelsnail_infer.runtime import Sampler

LIMITS = {"float32": CLOSE, "float16": 0.05, "bfloat16": 0.3}
"""Of the difference of two engines' logits, in standard deviations of the logits."""


def conditions(case: Case, n: int) -> dict[str, NDArray[Any]]:
    """Random ones, the same for the same network."""
    random = np.random.default_rng(0)
    return {spec.name: random.integers(0, spec.levels, (n, *spec.shape)) if spec.levels
            else random.standard_normal((n, *spec.shape)).astype(np.float32) for spec in case.source.conditions}


def proven(case: Case, sampler: Sampler) -> dict[str, Any]:
    """The proofs of every export, from the network in PyTorch on the CPU: replay at every position, every graph twice,
    score, known rows, draws, filters."""
    source = case.source
    reference = Reference(source.module.cpu(), None, source.shape, source.distribution, source.conditions)
    try:
        checks = verify_files(sampler, reference, lambda line: print(f"    {line}", flush=True))
    except VerificationError as error:
        return {"failed": str(error)}
    return {check.name: check.value for check in checks}


def drawn(case: Case, cpu: Sampler, other: Sampler, n: int = 2) -> dict[str, Any]:
    """Pixels drawn under the same noise on the CPU and on the device. Up to where an image first differs both engines
    have seen the same: their logits there must be equal, so that the draw was a near-tie."""
    given = conditions(case, n)
    here, there = (sampler.sample(n, seed=0, **given) for sampler in (cpu, other))
    apart = np.abs(here - there) > (1 / 255 if here.dtype == np.float32 else 0)
    differ = apart.reshape(n, case.source.shape[0] * case.source.shape[1], -1).any(-1)
    worst = 0.0
    if differ.any():
        logits = [sampler.replay(here, **given).reshape(*differ.shape, -1) for sampler in (cpu, other)]
        off = np.abs(logits[0] - logits[1]).max(-1) / logits[0].std()
        worst = max(float(off[slot, differ[slot].argmax()]) for slot in np.flatnonzero(differ.any(1)))
    limit = LIMITS[other.manifest.precision]
    return {"pixels": int(differ.size), "pixels_equal": int((~differ).sum()), "near_ties": int(differ.any(1).sum()),
            "logits_apart_there_sigma": worst, **({} if worst <= limit else {"failed": f"over {limit}"})}
