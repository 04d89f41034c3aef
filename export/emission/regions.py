"""The order in which a graph is written whose regions are each done at once, or left out at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

from pixelsnail_infer.export.emission.graph import Graph, Region, Step, Value
from pixelsnail_infer.export.emission.vocabulary import Put, Where, Write

__all__ = ["Work", "check_regions", "held_instead", "in_blocks"]


@dataclass(frozen=True, slots=True)
class Work:
    """All of a region's steps in order, and those of their results that are read outside of it."""

    region: Region
    steps: tuple[Step, ...]
    leaving: tuple[Value, ...]


def in_blocks(graph: Graph) -> list[Step | Work]:
    """The graph's steps, those of a region together; every one of them comes after those whose results it reads."""
    if not any(step.region for step in graph.steps):
        return list(graph.steps)
    blocks: dict[object, list[Step]] = {}
    for number, step in enumerate(graph.steps):
        blocks.setdefault(step.region or number, []).append(step)
    home = {result: key for key, steps in blocks.items() for step in steps for result in step.results}
    reads = {key: _reads(steps) for key, steps in blocks.items()}
    order = TopologicalSorter({key: {home[value] for value in values if home.get(value, key) != key}
                               for key, values in reads.items()}).static_order()
    wanted = {value for key, values in reads.items() for value in values if home.get(value) != key}
    wanted.update(output.value for output in graph.outputs)
    return [_block(key, blocks[key], wanted) for key in order]


def held_instead(step: Step, home: Mapping[Value, Region | None]) -> Value | None:
    """What a result of a region is where the region is not live, if that is a value from outside."""
    operation = step.operation
    chosen = isinstance(operation, Where) and home.get(operation.no) != step.region
    return operation.no if isinstance(operation, Where) and chosen else None


def check_regions(steps: Sequence[Step], outputs: Sequence[Value]) -> None:
    """What leaves a region is known, or not asked for, where the region is not live; states are written outside."""
    home = {result: step.region for step in steps for result in step.results}
    loose = {result for step in steps if step.region and held_instead(step, home) is None for result in step.results}
    for step in steps:
        for value in loose.intersection(step.operation.operands()):
            region = home[value]
            assert region is not None and (step.region == region or region.covers(step.region)), (step, value)
        assert not (step.region and isinstance(step.operation, (Put, Write))), step
    assert not loose.intersection(outputs), outputs


def _reads(steps: Sequence[Step]) -> set[Value]:
    found = {value for step in steps for value in step.operation.operands()}
    return found | {step.region.live for step in steps if step.region}


def _block(key: object, steps: list[Step], wanted: set[Value]) -> Step | Work:
    if not isinstance(key, Region):
        return steps[0]
    return Work(key, tuple(steps), tuple(result for step in steps for result in step.results if result in wanted))
