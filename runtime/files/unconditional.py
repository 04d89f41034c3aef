"""An ONNX model without `If`, for engines that record a graph once and repeat it: every one becomes what its first
branch does.

Exports only leave work out by an `If`: what its first branch gives is right whether or not the condition holds, and the
second branch tells what may be given instead.
"""

from __future__ import annotations

from collections.abc import Iterator

from pixelsnail_infer.runtime.files.protobuf import BYTES, encoded, fields
from pixelsnail_infer.runtime.files.rewriting import (
    ATTRIBUTE,
    INPUT,
    KIND,
    NAME,
    NODE,
    OUTPUT,
    TENSOR,
    held,
    replaced,
    text,
    texts,
    with_graph,
)

__all__ = ["without_conditions"]

_OUTPUTS = 12  # of a graph
_CALLED, _BRANCH = 1, 6  # of an attribute, and what an output is called


def without_conditions(model: bytes) -> bytes:
    """The model with every `If` of its graph done always; the same bytes where it has none.

    Raises `WireError` for what is no ONNX model.
    """
    return with_graph(model, "If", lambda graph: replaced(graph, "If", _done))


def _done(node: memoryview) -> Iterator[bytes]:
    """The nodes and numbers of its first branch, whose results get the names of the node's."""
    branch = next(branch for attribute in held(node, ATTRIBUTE) for branch in held(attribute, _BRANCH)
                  if list(texts(attribute, _CALLED)) == ["then_branch"])  # fmt: skip
    for number, wire, value in fields(branch):
        if number in (NODE, TENSOR):
            yield encoded(number, wire, value)
    given = [name for output in held(branch, _OUTPUTS) for name in texts(output, _CALLED)]
    for name, result in zip(given, texts(node, OUTPUT), strict=True):
        copy = text(INPUT, name) + text(OUTPUT, result) + text(NAME, f"{result}/done") + text(KIND, "Identity")
        yield encoded(NODE, BYTES, copy)
