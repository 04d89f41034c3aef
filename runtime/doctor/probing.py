"""Running a child: with a time limit, and so that neither its end nor what it prints is ours."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pixelsnail_infer.messages import one_line

__all__ = ["LIMIT", "Probe", "probe"]

LIMIT = 120.0
"""Seconds for one engine: importing it from a cold disk, and its self-tests."""
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); " \
    "from pixelsnail_infer.runtime.doctor.child import main; main(sys.argv[2:])"


@dataclass(frozen=True, slots=True)
class Probe:
    """What a child told, in order, and what became of it where it did not end well."""

    told: tuple[dict[str, Any], ...]
    ended: str | None = None


def probe(engine: str, gpus: int, limit: float | None = None) -> Probe:
    """Look at an engine in a child that finds packages where this process does."""
    with tempfile.TemporaryDirectory(prefix="doctor.") as folder:
        path, errors = Path(folder, "told"), Path(folder, "errors")
        found = json.dumps([str(one) for one in sys.path])
        command = [sys.executable, "-c", _START, found, engine, str(gpus), str(path)]
        with errors.open("wb") as stream:
            ended = _run(command, stream, LIMIT if limit is None else limit)
        if ended is not None and (last := _last_line(errors)):
            ended = f"{ended}; it printed: {last}"
        return Probe(tuple(_told(path)), ended)


def _run(command: list[str], errors: BinaryIO, limit: float) -> str | None:
    """None when the process ended as it should, else how it did."""
    quiet = subprocess.DEVNULL
    child = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=errors)
    try:
        code = child.wait(limit)
    except subprocess.TimeoutExpired:
        return f"it gave no answer within {limit:.0f} s"
    finally:
        if child.poll() is None:
            child.kill()
            with suppress(subprocess.TimeoutExpired):  # one that hangs in a driver may not even end then
                child.wait(5)
    if code == 0:
        return None
    return f"its process ended with status {code}" if code > 0 else f"its process was ended by {_signal(-code)}"


def _signal(number: int) -> str:
    try:
        return f"signal {number}, {signal.Signals(number).name}"
    except ValueError:
        return f"signal {number}"


def _told(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file."""
    if path.exists():
        for line in path.read_text("utf-8", "replace").splitlines():
            with suppress(ValueError):
                yield json.loads(line)


def _last_line(path: Path) -> str:
    lines = path.read_text("utf-8", "replace").strip().splitlines()
    return one_line(lines[-1], 300) if lines else ""
