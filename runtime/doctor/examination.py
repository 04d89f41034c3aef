"""The examination: every engine looked at and tried in a process of its own, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pixelsnail_infer.runtime.backends.choosing import ENGINES
from pixelsnail_infer.runtime.doctor.findings import (
    ABSENT,
    FAILED,
    UNUSED,
    WORKS,
    DeviceFinding,
    EngineFinding,
    Findings,
)
from pixelsnail_infer.runtime.doctor.looking import LOOKS
from pixelsnail_infer.runtime.doctor.machine import look_at_machine
from pixelsnail_infer.runtime.doctor.probing import Probe, probe

__all__ = ["examine"]

_INSTALL = {
    "onnxruntime": "pip install 'pixelsnail-infer[cpu]', or for an NVIDIA GPU 'pixelsnail-infer[gpu]'",
    "torch": "pip install 'pixelsnail-infer[torch]'; for an NVIDIA GPU a build of PyTorch for CUDA",
    "tensorrt": "pip install 'pixelsnail-infer[tensorrt]', or for RTX GPUs 'pixelsnail-infer[tensorrt-rtx]'",
}


def examine(say: Callable[[str], None] = lambda line: None) -> Findings:
    """Look at the machine and try every engine; `say` hears what is going on. Nothing that an engine does ends this."""
    machine = look_at_machine()
    gpus, found = machine.usable_gpus, {}
    for name in LOOKS:  # torch first: it may know of GPUs whose driver has no tool here
        say(f"trying {name}")
        found[name] = finding(name, probe(name, gpus))
        gpus = max(gpus, sum(one.device.startswith("cuda") and one.state != ABSENT for one in found[name].devices))
    return Findings(machine, tuple(found[name] for name in sorted(found)))


def finding(name: str, held: Probe) -> EngineFinding:
    """What a probe of an engine comes to."""
    told: dict[str, Any] = {key: value for one in held.told for key, value in one.items()}
    if "missing" in told:
        return EngineFinding(name, ABSENT, None, (f"not installed; {_INSTALL[name]}",), ())
    if "seen" not in told:
        why = told.get("broken") or held.ended or "it said nothing"
        says = f"it is installed and cannot be used: {why}", f"install it again: {_INSTALL[name]}"
        return EngineFinding(name, FAILED, None, says, ())
    seen, lines = told["seen"], list(told["seen"]["says"])
    devices = [*_tried(held), *(_unfinished(held, seen["devices"]) if name in ENGINES else ())]
    if name not in ENGINES:
        lines.append("this version of pixelsnail-infer does not use it")
    if held.ended is not None and all(one.state == WORKS for one in devices):
        lines.append(f"when all was done, {held.ended}")
    failed = held.ended is not None or any(one.state == FAILED for one in devices)
    state = FAILED if failed else WORKS if devices else UNUSED
    absent = [DeviceFinding(device, ABSENT, why) for device, why in seen["absent"].items()]
    return EngineFinding(name, state, seen["version"], tuple(lines), (*devices, *absent))


def _tried(held: Probe) -> list[DeviceFinding]:
    return [DeviceFinding(one["device"], WORKS if one["works"] else FAILED, one["says"], one["seconds"])
            for one in held.told if "works" in one]  # fmt: skip


def _unfinished(held: Probe, devices: Sequence[str]) -> list[DeviceFinding]:
    """The device at which the process ended, and those behind it, which were not tried."""
    done = [one["device"] for one in held.told if "works" in one]
    left, why = [device for device in devices if device not in done], held.ended or "its process ended early"
    return [DeviceFinding(one, FAILED, why if place == 0 else f"not tried: {why}") for place, one in enumerate(left)]
