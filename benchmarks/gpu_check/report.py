"""What was found, as JSON after every part and as a table at the end."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch


class Report:
    """Parts by name: what was found, or what was lacking. Written to the file whenever a part is added."""

    def __init__(self, path: Path, device: str) -> None:
        self.path = path
        self.found: dict[str, Any] = {"machine": machine(device), "parts": {}, "lacking": {}}

    def add(self, part: str, found: dict[str, Any]) -> None:
        """Keep and show what a part found."""
        self.found["parts"][part] = found
        shown = ", ".join(f"{key} {_short(value)}" for key, value in found.items())
        print(f"{part}: {shown}", flush=True)
        self._save()

    def lack(self, part: str, why: object) -> None:
        """Say what a part that could not run was lacking."""
        self.found["lacking"][part] = line = " ".join(str(why).split())[:500]
        print(f"{part}: not run: {line}", flush=True)
        self._save()

    @property
    def failed(self) -> list[str]:
        """The parts that ran and found something wrong."""
        return [part for part, found in self.found["parts"].items() if "failed" in found]

    def table(self) -> str:
        """Latencies and rivals in Markdown. Times faster: than the eager full canvas, per image, on the same device."""
        head = ("what", "row ms", "step ms", "s per image", "images a minute", "times faster")
        timed = {part: found for part, found in self.found["parts"].items() if "image_s" in found}
        rows = []
        for part, found in timed.items():
            slow = timed.get(f"{part.split(',')[0]}, full canvas, eager", {}).get("image_s")
            ratio = _short(slow / found["image_s"]) if slow else ""
            cells = (_short(found.get(key, "")) for key in ("row_ms", "step_ms", "image_s", "images_per_minute"))
            rows.append((part, *cells, ratio))
        return "\n".join("| " + " | ".join(line) + " |" for line in (head, ("---",) * len(head), *rows))

    def _save(self) -> None:
        self.path.write_text(json.dumps(self.found, indent=1) + "\n")


def machine(device: str) -> dict[str, Any]:
    """What the figures were measured on."""
    gpu = {}
    if device.startswith("cuda") and torch.cuda.is_available():
        seen = torch.cuda.get_device_properties(torch.device(device))
        gpu = {"gpu": seen.name, "compute_capability": f"{seen.major}.{seen.minor}", "gpu_bytes": seen.total_memory}
    return {**gpu, "cores": os.cpu_count(), "cpu": platform.processor() or platform.machine(),
            "python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda,
            "numpy": np.__version__, "arguments": sys.argv[1:]}


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
