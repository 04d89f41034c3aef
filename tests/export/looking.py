"""Finding nodes of an analysed network by what they are and where they stand in the module."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from pixelsnail_infer.export.analysis.support import Support
from pixelsnail_infer.export.fields import Node

from .gate import Exported, export
from .networks import NETWORKS, STRIDED
from .zoo import Network, Shape


def exported(name: str, shape: Shape = (4, 5)) -> Exported:
    return export({**NETWORKS, **STRIDED}[name], shape)


def of_module(make: nn.Module, shape: Shape = (4, 5)) -> Exported:
    """A module that is not in the zoo."""
    torch.manual_seed(0)
    return export(Network("sketch", lambda shape: make, (shape,)), shape)


def nodes(found: Exported, module: str, *ops: str) -> list[Node]:
    """Nodes of a module path, of some ops if given, in order."""
    return [n for n in found.program.order if n.where.module == module and (not ops or n.op in ops)]


def one(found: Exported, module: str, *ops: str) -> Node:
    (node,) = nodes(found, module, *ops)
    return node


def supports(found: Exported) -> list[Support]:
    return list(found.program.support.values())


def taps(node: Node) -> set[tuple[int, int]]:
    return set(node.attrs["taps"])


def stages(found: Exported, group: Iterable[Node]) -> set[str]:
    return {found.program.stage[node].name for node in group}
