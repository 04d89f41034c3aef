"""Which caches may be short: where the keys of later rows are not only without weight but counted nowhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pixelsnail_infer.export.analysis import growth
from pixelsnail_infer.export.compile import Compiled, compile_model
from pixelsnail_infer.export.tracing.trace import InputSpec

from .files.drive import Driver
from .gate import compiled
from .networks import NETWORKS
from .zoo import LEVELS, Shape
from .zoo_attention import (
    Attention,
    Weigh,
    attending,
    exp_with_masked_maximum,
    inclusive,
    plain_fill,
    start_mask,
    strict,
)

SHAPE = (4, 5)
EXACT, WRONG = 1e-9, 1e-4


def mean_of_all(scores: Tensor, mask: Tensor) -> Tensor:
    """The mean of the weights over the whole canvas."""
    weights = torch.exp(scores) * mask
    return weights / (weights.mean(-1, keepdim=True) + 1e-3)


def kept_start(scores: Tensor, mask: Tensor) -> Tensor:
    """The first query sees nothing but itself, with the weight that a softmax of the whole canvas leaves."""
    return torch.softmax(scores.masked_fill(~mask.tril(-1), -1e4), -1) * mask


def gated_start(scores: Tensor, mask: Tensor) -> Tensor:
    """The same, times something that is not known."""
    weights = torch.softmax(scores.masked_fill(~mask.tril(-1), -1e4), -1)
    return weights * torch.sigmoid(scores) * mask


def soft_fill(scores: Tensor, mask: Tensor) -> Tensor:
    """Masked keys weigh a little until the weights were divided by their sum."""
    weights = torch.exp(scores.masked_fill(~mask, -3.0))
    return weights * mask / weights.sum(-1, keepdim=True)


def softmax_of_soft_fill(scores: Tensor, mask: Tensor) -> Tensor:
    return torch.softmax(scores.masked_fill(~mask, -3.0), -1) * mask


def largest_of_all(scores: Tensor, mask: Tensor) -> Tensor:
    """Masked keys take part in a maximum that does not cancel."""
    filled = scores.masked_fill(~mask, 3.0)
    return torch.exp(scores - filled.amax(-1, keepdim=True)) * mask


class TwoWays(nn.Module):
    """Two attentions over the same values; the first counts later rows, and the second does not."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.a, self.b = Attention(mask, mean_of_all), Attention(mask, plain_fill)
        self.b.val = self.a.val

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        out: Tensor = self.a(x, source) + self.b(x, source)
        return out


COUNT: tuple[Weigh, ...] = (mean_of_all, kept_start, gated_start, soft_fill, softmax_of_soft_fill, largest_of_all)
Module = Callable[[Shape], nn.Module]
MAKERS: dict[str, Module] = {weigh.__name__: lambda shape, weigh=weigh: attending(Attention(inclusive(shape), weigh))
                             for weigh in COUNT}  # type: ignore[misc]
MAKERS["two_ways"] = lambda shape: attending(TwoWays(inclusive(shape)))


def staged(make: Module, shape: Shape = SHAPE) -> tuple[nn.Module, Compiled]:
    torch.manual_seed(3)
    module = make(shape).double().eval()
    return module, compile_model(module, lambda m, x: m(x), (InputSpec("pixels", shape, torch.int64, LEVELS),), shape)


def error(module: nn.Module, program: Compiled, **options: Any) -> float:
    """The largest difference between the network and its graphs, whose caches are as short as they may be."""
    shape = program.program.shape
    codes = np.random.default_rng(1).integers(0, LEVELS, (2, *shape))
    with torch.no_grad():
        expected = module(torch.from_numpy(codes)).permute(0, 2, 3, 1).numpy()
    driver = Driver(program, "float64", **options)
    driver.begin(2, {})
    return float(np.abs(driver.replay(codes) - expected).max())


def grows(program: Compiled) -> set[bool]:
    return {cache.grows for cache in program.layout.caches}


@pytest.mark.parametrize("name", MAKERS)
def test_attention_that_counts_later_rows_keeps_whole_caches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, program = staged(MAKERS[name])
    assert grows(program) == {False}
    assert error(module, program) < EXACT
    monkeypatch.setattr(growth, "_is_same", lambda *given: True)
    module, program = staged(MAKERS[name])
    assert grows(program) == {True}
    assert not error(module, program) < WRONG, "short caches would do here, too"


@pytest.mark.parametrize("name", [name for name, net in NETWORKS.items() if "attention" in net.make.__module__])
def test_every_other_attention_of_the_zoo_has_caches_that_grow(name: str) -> None:
    program = compiled(NETWORKS[name], NETWORKS[name].shapes[0])
    for cache in program.layout.caches:
        assert cache.grows == (cache.pool is None), (name, cache.name)


@pytest.mark.parametrize("shape", [(1, 4), (4, 1), (2, 3), (3, 7)])
@pytest.mark.parametrize(("mask", "weigh"), [(strict, start_mask), (strict, exp_with_masked_maximum),
                                             (inclusive, plain_fill)])
def test_short_caches_on_other_canvases(shape: Shape, mask: Callable[[Shape], Tensor], weigh: Weigh) -> None:
    module, program = staged(lambda shape: attending(Attention(mask(shape), weigh, heads=2)), shape)
    assert grows(program) == {True}
    assert error(module, program) < EXACT and error(module, program, spoil=True) < EXACT


def test_attention_with_its_own_caches_does_not_hinder_another() -> None:
    """Of two in a row, each by itself."""
    class Both(nn.Module):
        def __init__(self, mask: Tensor) -> None:
            super().__init__()
            self.a, self.b = Attention(mask, mean_of_all), Attention(mask, plain_fill, keys_from=4, into=4)

        def forward(self, x: Tensor, source: Tensor) -> Tensor:
            y = self.a(x, source)
            out: Tensor = self.b(y, y)
            return out

    module, program = staged(lambda shape: attending(Both(inclusive(shape))))
    assert [cache.grows for cache in program.layout.caches].count(True) == 2 and len(program.layout.caches) == 4
    assert error(module, program) < EXACT


def axes(program: Compiled) -> Mapping[str, tuple[int | str, ...]]:
    return {cache.name: cache.axes for cache in program.layout.caches}


def test_the_name_of_the_axis_is_its_full_length() -> None:
    for make, found in ((MAKERS["mean_of_all"], 20), (lambda s: attending(Attention(strict(s), start_mask)), "K20")):
        assert {sizes[1] for sizes in axes(staged(make)[1]).values()} == {found}
