"""One thread for PyTorch; a sampler on each of the networks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from pixelsnail_infer.runtime import Sampler, load

from .networks import CASES, exported


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=list(CASES), scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def sampler(name: str) -> Iterator[Sampler]:
    with load(exported(name), threads=1) as opened:
        yield opened
