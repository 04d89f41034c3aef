"""The toy models of the runtime's tests, one sampler on the first, and a pipeline of the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pixelsnail_infer.runtime import Pipeline, Sampler, load, load_pipeline

from ..runtime import synthetic
from ..runtime.chain import write_chain


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write(tmp_path_factory.mktemp("toy"), synthetic.build())


@pytest.fixture(scope="session")
def sampler(toy: Path) -> Iterator[Sampler]:
    with load(toy, threads=1) as opened:
        yield opened


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    files = write_chain(tmp_path_factory.mktemp("chain"))
    paths = [files["top"], files["bottom"], files["decoder"]]
    with load_pipeline(paths, encoder=files["encoder"], threads=1) as opened:
        yield opened
