"""The network of which the count is known, exported once."""

from __future__ import annotations

from pathlib import Path

import pytest

from .networks import export_counted


@pytest.fixture(scope="package")
def counted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Its ONNX step file and its archive; read only."""
    return export_counted(tmp_path_factory.mktemp("counted"))
