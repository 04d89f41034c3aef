"""Running the command `bulk` here and in processes that die, and what a folder then holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pixelsnail_infer.__main__ import main
from pixelsnail_infer.runtime.bulk.drawer import ShardDrawer
from pixelsnail_infer.runtime.bulk.reading import read_shards

LABELS = [*range(10)]
ARGUMENTS = ("--n", 23, "--shard", 5, "--max-batch", 4, "--label", "0-9", "--seed", 7, "--threads", 1)
SHARDS = 5


def bulk(*arguments: object) -> int:
    return main(["bulk", *(str(argument) for argument in arguments)])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("shard-*"))


def records(folder: Path) -> np.ndarray:
    return np.concatenate([np.asarray(held) for held in read_shards(folder)])


def drawn_shards(patch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the shards that are drawn from now on."""
    numbers: list[int] = []
    draw = ShardDrawer.records

    def counted(self: ShardDrawer, shard: object, *rest: object) -> np.ndarray:
        numbers.append(shard.number)  # type: ignore[attr-defined]
        return draw(self, shard, *rest)  # type: ignore[arg-type]

    patch.setattr(ShardDrawer, "records", counted)
    return numbers


DYING = """
import os, signal, sys
sys.modules.update(dict.fromkeys(("torch", "onnx", "ray", "pyarrow")))  # importing them fails
from pixelsnail_infer.__main__ import main
from pixelsnail_infer.runtime.bulk import drawer, folder
from pixelsnail_infer.runtime.files import saving

def dying(place, name, last):
    act, calls = getattr(place, name), []
    def counted(*arguments, **options):
        calls.append(name)
        if len(calls) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return act(*arguments, **options)
    setattr(place, name, counted)

dying({place}, {name!r}, {last})
main({arguments!r})
"""


def killed(place: str, name: str, last: int, *arguments: object) -> None:
    """Run `bulk` in a process that SIGKILLs itself where it would call `name` of `place` for the last time."""
    words = ["bulk", *(str(argument) for argument in arguments)]
    code = DYING.format(place=place, name=name, last=last, arguments=words)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == -9, done.stdout + done.stderr
