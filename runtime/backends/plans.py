"""Whether a backend can run what an export was written for."""

from __future__ import annotations

from pixelsnail_infer.errors import BackendError
from pixelsnail_infer.plan import Plan, require
from pixelsnail_infer.runtime.backends.protocol import Backend


def check_plan(plan: Plan, backend: Backend, name: str) -> None:
    """Raise `BackendError` unless the backend has the plan of the file `name`."""
    advice = f"which {name} was exported with: use another device, or export the checkpoint again with what it has"
    require(plan, backend.plans, f"the backend for device {backend.device!r}", BackendError, advice)
