"""What the doctor found: engines and devices, which of them work, and what to do about the others."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pixelsnail_infer.runtime.doctor.machine import Machine

__all__ = ["ABSENT", "FAILED", "UNUSED", "WORKS", "DeviceFinding", "EngineFinding", "Findings"]

WORKS, FAILED, ABSENT, UNUSED = "works", "failed", "absent", "unused"


@dataclass(frozen=True, slots=True)
class DeviceFinding:
    """An engine on a device: `state` is "works", "failed" or "absent", `says` how it was or what to do, `seconds` what
    its self-test took."""

    device: str
    state: str
    says: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class EngineFinding:
    """An engine: "works", "failed" (its package, or one of its devices), "absent" (it is not installed) or "unused" (it
    is, and nothing was tried on it). `says` is about the package: what it is, why it failed, or how to get it."""

    name: str
    state: str
    version: str | None
    says: tuple[str, ...]
    devices: tuple[DeviceFinding, ...]


@dataclass(frozen=True, slots=True)
class Findings:
    """All of it."""

    machine: Machine
    engines: tuple[EngineFinding, ...]

    @property
    def healthy(self) -> bool:
        """Whether something here can run models, and all that is installed works."""
        tried = [device.state for engine in self.engines for device in engine.devices]
        return WORKS in tried and all(engine.state != FAILED for engine in self.engines)

    def to_json(self) -> dict[str, Any]:
        """As JSON has it: the names of all fields, and `healthy`."""
        return {**asdict(self), "healthy": self.healthy}
