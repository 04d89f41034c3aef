"""The machine and the packages that every engine needs, and its NVIDIA GPUs, as their driver tells."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass

import numpy as np

from pixelsnail_infer import __version__
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.runtime.backends.host import usable_cores

__all__ = ["GPU", "Machine", "look_at_machine"]

_SMI = "nvidia-smi"
_FIELDS = ("name", "compute_cap", "memory.total", "driver_version")
_LIMIT = 30.0  # seconds; a driver that starts up takes some


@dataclass(frozen=True, slots=True)
class GPU:
    """One NVIDIA GPU; `memory` is in MiB."""

    name: str
    compute_capability: str
    memory: str
    driver: str


@dataclass(frozen=True, slots=True)
class Machine:
    """What is here, whatever the engine. `gpus_say` is what there is to say where the driver lists no GPU, or hides."""

    pixelsnail_infer: str
    python: str
    numpy: str
    platform: str
    cores: int
    gpus: tuple[GPU, ...]
    gpus_say: str

    @property
    def usable_gpus(self) -> int:
        """GPUs that CUDA programs may see."""
        return 0 if _hidden() else len(self.gpus)


def look_at_machine() -> Machine:
    """Look at it. Raises nothing for what is not there."""
    gpus, says = _gpus()
    if _hidden():
        says = f"CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']} hides all GPUs"
    return Machine(
        __version__, platform.python_version(), np.__version__, platform.platform(), usable_cores(), gpus, says)


def _hidden() -> bool:
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")


def _gpus() -> tuple[tuple[GPU, ...], str]:
    """NVIDIA GPUs, and why there are none."""
    command = [_SMI, f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_LIMIT, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        return (), f"there is no {_SMI}, so no NVIDIA driver, or it is out of reach"
    except (OSError, subprocess.TimeoutExpired) as error:
        return (), f"{_SMI} does not work ({one_line(error, 200)}); look at the NVIDIA driver"
    rows = [[one_line(field, 100) for field in line.split(",")] for line in done.stdout.splitlines()]
    gpus = tuple(GPU(*row) for row in rows if len(row) == len(_FIELDS))
    if done.returncode or not gpus:
        why = one_line((done.stdout + done.stderr).strip() or f"status {done.returncode}", 200)
        return (), f"{_SMI} lists no GPU ({why}); look at the NVIDIA driver"
    return gpus, ""
