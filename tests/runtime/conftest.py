"""The toy models of `synthetic` and `chain`, written once, and one sampler on the first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pixelsnail_infer.runtime import Sampler, load

from . import synthetic
from .chain import write_chain


@pytest.fixture(scope="session")
def parts() -> dict[str, bytes]:
    return synthetic.build()


@pytest.fixture(scope="session")
def toy(parts: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write(tmp_path_factory.mktemp("toy"), parts)


@pytest.fixture(scope="module")
def sampler(toy: Path) -> Iterator[Sampler]:
    with load(toy, threads=1) as opened:
        yield opened


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files that make a pipeline: top, bottom, decoder, encoder."""
    return write_chain(tmp_path_factory.mktemp("chain"))
