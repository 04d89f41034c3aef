"""The proofs of `verify` for the wavefront: float64 before anything is written, and the wave graphs of the files."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from pixelsnail_infer.export.analysis.wave import Wave
from pixelsnail_infer.export.proofs.reference import Reference
from pixelsnail_infer.export.proofs.verify import BATCHES, EXACT, SECONDS, Check, drawn, passed, replayed
from pixelsnail_infer.export.proofs.wave_order import run_waves
from pixelsnail_infer.runtime import Sampler

__all__ = ["verify_wave_files", "verify_wave_order"]

Hear = Callable[[str], None]


def verify_wave_order(wave: Wave, reference: Reference, say: Hear) -> list[Check]:
    """The reference interpreter in the order of waves against the full-image forward, for some seconds per batch size,
    from the first wave on. Raises `VerificationError`."""
    checks = []
    for batch in reference.exact_batches:
        say(f"float64 reference interpreter in the order of waves, batch {batch}")
        checks.append(_float64(wave, reference, batch))
    return passed(checks)


def verify_wave_files(sampler: Sampler, reference: Reference, say: Hear) -> list[Check]:
    """Replay through the wave graphs, and draws by them; `sampler` draws in waves. Raises `VerificationError`."""
    checks = []
    for batch in BATCHES:
        say(f"replay through the wave graphs, batch {batch}")
        checks += passed([replayed(sampler, reference.known(batch), wavefront=True, twice=batch == 1)])
    say("drawing in waves, and confirming every draw by one PyTorch forward")
    return [*checks, *passed([drawn(sampler, reference, "drawn in waves")])]


def _float64(wave: Wave, reference: Reference, batch: int) -> Check:
    codes, conditions, logits = reference.known(batch, torch.float64)
    expected = torch.from_numpy(logits)
    inputs = {wave.program.pixel.attrs["name"]: reference.tensor(codes, torch.float64)}
    for name, value in conditions.items():
        tensor = torch.from_numpy(value)
        inputs[name] = tensor.double() if tensor.is_floating_point() else tensor
    worst, seen, started = 0.0, 0, time.monotonic()
    for row, col, found in run_waves(wave, inputs):
        difference = float((found - expected[:, row, col]).abs().max())
        worst = max(worst, difference) if np.isfinite(difference) else float("nan")
        seen += len(row)
        if not np.isfinite(worst) or time.monotonic() - started > SECONDS:
            break
    total, scale = codes.shape[1] * codes.shape[2], max(1.0, float(expected.abs().max()))
    detail = f"slope {wave.slope}, " + ("every position" if seen == total else f"{seen} of {total} positions")
    return Check(f"float64 interpreter in waves, batch {batch}", worst / scale, EXACT, seen, detail)
