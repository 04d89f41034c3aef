"""Regrouped sums compute what they computed before, also where vectors, constants and rows meet."""

from __future__ import annotations

import pytest

from pixelsnail_infer.export.analysis.prologue import cut_prologue
from pixelsnail_infer.export.analysis.states import kept_values
from pixelsnail_infer.export.analysis.sums import regroup_sums
from pixelsnail_infer.export.proofs.interpret import run_staged

from .gate import TOLERANCE, difference, export
from .networks import NETWORKS
from .zoo import Network
from .zoo_conditions import vector_on_a_sum

CONDITIONED = [net for net in NETWORKS.values() if len(net.inputs(net.shapes[0])) > 1]


@pytest.mark.parametrize("net", CONDITIONED, ids=[net.name for net in CONDITIONED])
def test_regrouping_changes_no_number(net: Network) -> None:
    exported = export(net, net.shapes[0])
    cut_prologue(exported.program)
    regroup_sums(exported.program)
    given = exported.given(2)
    found = run_staged(exported.program, given, kept_values(exported.program))
    assert difference(found, exported.logits(given)) < TOLERANCE


def test_the_case_of_two_vectors_is_in_the_zoo() -> None:
    assert NETWORKS[vector_on_a_sum.__name__] in CONDITIONED
