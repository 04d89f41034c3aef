"""Every network of the zoo is exported exactly, and every leak is refused with its reason."""

from __future__ import annotations

import re

import pytest

from .gate import TOLERANCE, checked, export, leaks
from .networks import LEAKS, NETWORKS, STRIDED, first_canvases
from .zoo import Network, Shape

CASES = [pytest.param(net, shape, id=f"{net.name}-{shape[0]}x{shape[1]}")
         for net in (*NETWORKS.values(), *STRIDED.values()) for shape in net.shapes]


@pytest.mark.parametrize(("net", "shape"), CASES)
def test_the_staged_program_equals_the_module(net: Network, shape: Shape) -> None:
    exported, _ = checked(net, shape)
    for batch in (1, 3):
        assert exported.error(batch, False) < TOLERANCE


@pytest.mark.parametrize(("net", "shape"), first_canvases([*NETWORKS.values(), *STRIDED.values()]))
def test_rows_at_once_equal_the_module(net: Network, shape: Shape) -> None:
    exported, _ = checked(net, shape)
    for batch in (1, 3):
        assert exported.error(batch, True) < TOLERANCE


@pytest.mark.parametrize(("net", "shape"), CASES)
def test_the_oracle_finds_no_leak(net: Network, shape: Shape) -> None:
    assert leaks(net, shape) == []


@pytest.mark.parametrize("net", LEAKS.values(), ids=LEAKS)
def test_refused_with_the_reason(net: Network) -> None:
    assert net.error is not None
    with pytest.raises(net.error) as caught:
        export(net, net.shapes[0])
    for words in net.says:
        assert re.search(words if "|" in words else re.escape(words), str(caught.value)), str(caught.value)
