"""Regrouped sums compute what they computed before, also where vectors, constants and rows meet."""

from __future__ import annotations

import pytest

from .gate import TOLERANCE, checked
from .networks import NETWORKS
from .zoo import Network
from .zoo_conditions import vector_on_a_sum

CONDITIONED = [net for net in NETWORKS.values() if len(net.inputs(net.shapes[0])) > 1]


@pytest.mark.parametrize("net", CONDITIONED, ids=[net.name for net in CONDITIONED])
def test_regrouping_changes_no_number(net: Network) -> None:
    exported, _ = checked(net, net.shapes[0])
    assert exported.error(2) < TOLERANCE


def test_the_case_of_two_vectors_is_in_the_zoo() -> None:
    assert NETWORKS[vector_on_a_sum.__name__] in CONDITIONED
