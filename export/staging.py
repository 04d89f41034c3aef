"""From a module to its staged program, with what the module itself shows when it is run: leaks, dropout, caches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from pixelsnail_infer.errors import ModelError, NotCausalError, UnsupportedOpError
from pixelsnail_infer.export.compile import Compiled, compile_model
from pixelsnail_infer.export.proofs.probe import find_leak, find_pair, fingerprint, unsteady
from pixelsnail_infer.export.proofs.reference import Reference
from pixelsnail_infer.export.proofs.verify import CLOSE, Check
from pixelsnail_infer.export.tracing.forward import Forward
from pixelsnail_infer.export.tracing.own_caches import forget_fakes
from pixelsnail_infer.export.tracing.trace import InputSpec
from pixelsnail_infer.manifest import ConditionSpec
from pixelsnail_infer.plan import DEFAULT_PLAN, Plan

__all__ = ["staged"]

UNEXPLAINED = ("The analysis of its operations does not show why. Does it keep something from call to call, or compute "
               "outside of PyTorch?")


def staged(module: torch.nn.Module, call: Forward, reference: Reference, say: Callable[[str], None],
           plan: Plan = DEFAULT_PLAN, wave: bool = False) -> tuple[Compiled, list[Check]]:
    """Probe `reference`, compile `module`, and hold what the one says of a leak against what the other says.

    Raises `NotCausalError` with the pair of positions and the operation, as far as they can be found; `ModelError` for
    a network that is no function of one image, or that is another one after it was traced.
    """
    say("running the network")
    reason, leak = unsteady(reference), None
    if reason is None:
        say("oracle: changing later pixels")
        check, leak = find_leak(reference)
        reason = f"the model is not causal: {leak}" if leak else None
    say("tracing and staging")
    try:
        compiled = _compiled(module, call, reference, plan, wave)
    except NotCausalError as error:
        leak = leak or find_pair(reference)
        shown = str(leak) if leak else "no pixel that was changed shows it, but it is one"
        raise NotCausalError(f"the model is not causal: {shown}. The leak: {error}") from error
    except ModelError as error:
        if reason is None:
            raise
        if leak is None:
            raise ModelError(f"{reason}: {error}") from error
        raise NotCausalError(f"{reason}. The analysis got no further than to: {error}") from error
    finally:
        forget_fakes(module)
    if reason is not None:
        raise (NotCausalError if leak else ModelError)(f"{reason}. {UNEXPLAINED}")
    _unchanged(reference)
    return compiled, [check]


def _compiled(module: torch.nn.Module, call: Forward, reference: Reference, plan: Plan, wave: bool) -> Compiled:
    law, shape, specs = reference.distribution, reference.shape, reference.conditions
    pixels = InputSpec("pixels", (*law.pixel_shape, *shape), torch.float32) if law.pixel_shape else \
        InputSpec("pixels", shape, torch.int64, law.parameters)
    names = [spec.name for spec in specs]

    def forward(traced: Any, x: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        return _recorded(call, traced, x, dict(zip(names, given, strict=True)))

    return compile_model(module, forward, (pixels, *(_input(spec) for spec in specs)), shape, law, plan, wave)


def _recorded(call: Forward, module: Any, pixels: torch.Tensor, conditions: dict[str, torch.Tensor]) -> torch.Tensor:
    """The forward on tensors without numbers; it has run on numbers before."""
    try:
        return call(module, pixels, conditions)
    except UnsupportedOpError:
        raise
    except ModelError as error:
        if error.__cause__ is None:
            raise
        raise ModelError(f"{error}. It runs on numbers, but not when it is recorded, where no pixel has a value: write "
                         "this line with PyTorch's operations.") from error.__cause__


def _input(spec: ConditionSpec) -> InputSpec:
    dtype = torch.int64 if spec.dtype == "int64" else torch.float32
    return InputSpec(spec.name, tuple(spec.shape), dtype, spec.levels)


def _unchanged(reference: Reference) -> None:
    """What a trace leaves in a cache outside of the module must not reach the forwards that verify it."""
    before = reference.known(1).logits
    try:
        moved = float(np.abs(fingerprint(reference) - before).max() / before.std())
        reason = f"its logits differ by {moved:.2g} standard deviations"
    except ModelError as error:
        moved, reason = float("inf"), str(error)
    if moved > CLOSE:
        raise ModelError(f"the model is not the same after it was recorded: {reason}. Something that it keeps outside "
                         "of the module has changed, so that nothing could be verified. Keep such things on the "
                         "module, or make them by functools.lru_cache of sizes alone.")
