"""The digits model, and a folder that a bulk of it filled without any trouble."""

from __future__ import annotations

from pathlib import Path

import pytest

from .running import ARGUMENTS, bulk


@pytest.fixture(scope="session")
def model(digits_graphs: dict[str, Path]) -> Path:
    return digits_graphs["step"]


@pytest.fixture(scope="session")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    folder = tmp_path_factory.mktemp("bulk") / "whole"
    assert bulk(model, *ARGUMENTS, "-o", folder) == 0
    return folder
