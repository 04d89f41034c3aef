"""What the whole suite shares: one thread, property tests without deadlines, the exported digits model."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The networks are tiny: threads would only wait for each other. Set before NumPy and torch are imported.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "examples" / "digits.pt"

settings.register_profile("suite", deadline=None, max_examples=50, print_blob=True)
settings.load_profile("suite")


@pytest.fixture(autouse=True, scope="session")
def one_engine_thread() -> Iterator[None]:
    """As above, of the engine where a test does not say how many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pixelsnail_infer.runtime.backends.onnxruntime_cpu.usable_cores", lambda: 1)
        yield


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """The command `serve` takes the package's log over for its process."""
    loggers = [logging.getLogger(name) for name in ("pixelsnail_infer", "uvicorn")]
    before = [(list(logger.handlers), logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture(scope="session")
def digits_graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files that `export-model examples/digits.pt` writes, by part: `step`, `row`, `score`, …; read only."""
    from pixelsnail_infer.export.cli import main

    step = tmp_path_factory.mktemp("digits") / "digits.onnx"
    assert main([str(DIGITS), str(step)]) == 0
    siblings = {path.name.split(".")[1]: path for path in step.parent.glob("digits.*.onnx")}
    return {"step": step, **siblings}


@pytest.fixture(scope="session")
def digits_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that `export-model examples/digits.pt --format torchscript` writes; read only."""
    from pixelsnail_infer.export.cli import main

    path = tmp_path_factory.mktemp("digits") / "digits.pt"
    assert main([str(DIGITS), str(path), "--format", "torchscript"]) == 0
    return path


@pytest.fixture(scope="session")
def digits_bfloat16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in bfloat16; read only."""
    from pixelsnail_infer.export.cli import main

    path = tmp_path_factory.mktemp("digits") / "digits.pt"
    assert main([str(DIGITS), str(path), "--format", "torchscript", "--precision", "bfloat16"]) == 0
    return path
