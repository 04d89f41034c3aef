"""The model that benchmarks of the service take unless they are given one: the digits, exported first."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pixelsnail_infer.export.cli import main as export

CHECKPOINT = Path(__file__).resolve().parents[1] / "examples" / "digits.pt"


@contextmanager
def given_or_digits(model: Path | None) -> Iterator[Path]:
    """`model`, or within the block an export of the digits model."""
    if model is not None:
        yield model
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.onnx"
        if export([str(CHECKPOINT), str(path)]) != 0:
            raise SystemExit("The digits model could not be exported.")
        yield path
