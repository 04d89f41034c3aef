"""One thread for PyTorch: the models are tiny, and a run of the suite shares its two cores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from pixelsnail_infer.runtime import Sampler, load

from .models import CONFIGS, exported


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=list(CONFIGS), scope="package")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="package")
def sampler(name: str) -> Iterator[Sampler]:
    with load(exported(name), threads=1) as opened:
        yield opened
