"""A fresh process that loads a model and draws: how long the start takes, and how much memory it takes at most."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from time import perf_counter
from typing import Any

from pixelsnail_infer.errors import BackendError
from pixelsnail_infer.messages import one_line

__all__ = ["draw_alone", "peak_bytes"]

_CODE = """
import json, sys, time
started = time.perf_counter()
sys.path[:] = json.loads(sys.argv[1])
import pixelsnail_infer.runtime.bench.alone as alone
alone._draw(started, json.loads(sys.argv[2]))
"""


def draw_alone(path: str, size: int, options: Mapping[str, Any], whole: bool) -> dict[str, Any]:
    """What a process of its own takes for a batch of `size`: seconds to import, to load (both from the start of
    Python's work), to draw the first row, and with `whole` the whole images; and its peak memory in bytes, None where
    the system does not tell. `options` are those of `load`. Raises `BackendError` when the process fails."""
    asked = {"path": path, "size": size, "options": dict(options), "whole": whole}
    command = [sys.executable, "-c", _CODE, json.dumps(sys.path), json.dumps(asked)]
    began = perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        reason = one_line(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it says nothing", 300)
        raise BackendError(f"A process of its own for a batch of {size} failed ({reason}).")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"batch": size, **found, "process_s": perf_counter() - began}


def peak_bytes() -> int | None:
    """The most memory that this process has had at once."""
    try:
        import resource
    except ImportError:  # not on this platform
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _draw(started: float, asked: Mapping[str, Any]) -> None:
    """In the other process."""
    import numpy as np

    from pixelsnail_infer.runtime.drawing.loading import load

    imported = perf_counter()
    with load(asked["path"], **asked["options"]) as sampler:
        loaded = perf_counter()
        size, rows = asked["size"], list[float]()
        conditions: dict[str, Any] = {s.name: np.zeros((size, *s.shape), s.dtype) for s in sampler.manifest.conditions}

        def on_row(*_: object) -> bool:
            rows.append(perf_counter())
            return not asked["whole"]

        sampler.sample(size, seed=0, max_batch=size, on_row=on_row, **conditions)
        found = {
            "import_s": imported - started, "load_s": loaded - imported, "first_row_s": rows[0] - loaded,
            "first_images_s": rows[-1] - loaded if asked["whole"] else None, "peak_bytes": peak_bytes(),
        }  # fmt: skip
    print(json.dumps(found))
