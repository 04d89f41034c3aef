"""The findings in words."""

from __future__ import annotations

from collections.abc import Iterator

from pixelsnail_infer.runtime.doctor.findings import ABSENT, WORKS, EngineFinding, Findings
from pixelsnail_infer.runtime.doctor.machine import Machine

__all__ = ["in_words"]


def in_words(findings: Findings) -> str:
    """Text for people."""
    engines = [line for engine in findings.engines for line in _engine(engine)]
    return "\n".join([*_machine(findings.machine), *engines, _verdict(findings)])


def _machine(machine: Machine) -> Iterator[str]:
    yield f"pixelsnail-infer {machine.pixelsnail_infer}, Python {machine.python}, NumPy {machine.numpy}, " \
        f"{machine.cores} core{'s' * (machine.cores != 1)}, {machine.platform}"
    for gpu in machine.gpus:
        yield f"NVIDIA GPU: {gpu.name}, compute capability {gpu.compute_capability}, {gpu.memory} MiB, " \
            f"driver {gpu.driver}"
    if machine.gpus_say:
        yield f"NVIDIA GPU: {machine.gpus_say}"


def _engine(engine: EngineFinding) -> Iterator[str]:
    version = "" if engine.version is None else f" {engine.version}"
    state = "not there" if engine.state == ABSENT else engine.state
    yield f"{engine.name}{version}: {state}"
    for line in engine.says:
        yield f"  {line}"
    for device in engine.devices:
        seconds = "" if device.seconds is None else f" ({device.seconds:.1f} s)"
        word = {WORKS: "ok", ABSENT: "not there"}.get(device.state, "FAILED")
        yield f"  {device.device:<6}  {word}: {device.says}{seconds}"


def _verdict(findings: Findings) -> str:
    if findings.healthy:
        return "All that is installed works."
    if any(device.state == WORKS for engine in findings.engines for device in engine.devices):
        return "Something that is installed does not work."
    return "Nothing here can run a model; install an engine as said above."
