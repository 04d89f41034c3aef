"""Which of a file's models is meant: the only one, the one that `--key` names, or the averages that `--ema` wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pixelsnail_infer.checkpoints.averages import dotless_averages, filled
from pixelsnail_infer.checkpoints.candidates import AVERAGED, Candidate
from pixelsnail_infer.checkpoints.normalise import stored_in_full
from pixelsnail_infer.errors import CheckpointError
from pixelsnail_infer.messages import one_line

__all__ = ["choose", "with_averages"]

SHOWN = 6
NO_AVERAGES = ("the file holds no averaged copy of the weights{}; leave --ema out (of pixel_models the averages are in "
               "another file: --ema FILE)")


def choose(found: Sequence[Candidate], key: str | None, ema: bool) -> Candidate:
    """The model that is meant: the weights, or with `ema` the averages if they lie as a model of their own.

    Raises:
        CheckpointError: several fit, or `key` names none.
    """
    fitting = list(found) if key is None else _named(found, key)
    weights = [candidate for candidate in fitting if not candidate.averaged]
    averages = [candidate for candidate in fitting if candidate.averaged]
    if not ema and (key is None or not AVERAGED.search(key.rpartition(".")[2])):
        return _only(weights or averages)
    kinds = {candidate.family for candidate in weights or averages}
    return _only([one for one in averages if one.family in kinds] or weights)


def with_averages(
    chosen: Candidate, found: Sequence[Candidate], names: Mapping[str, Tensor], ema: bool, findings: list[str]
) -> Candidate:
    """The chosen model with averages for weights where `ema` asks for them. Appends to `findings`.

    `names` are all tensors of its dictionary.

    Raises:
        CheckpointError: there are no averages, two copies of them, or they do not fit the weights.
    """
    if not ema:
        return chosen
    dotless = dotless_averages(chosen, found, names)
    if len(dotless) + chosen.averaged != 1:
        places = [*dotless, *([chosen.place] if chosen.averaged else [])]
        if not places:
            raise CheckpointError(NO_AVERAGES.format(f" '{one_line(chosen.place, 60)}'"))
        raise CheckpointError(f"the file holds averages under {', '.join(one_line(p, 60) for p in places[:SHOWN])}; "
                              "choose one with --key")
    if dotless:
        prefix, averages = dotless.popitem()
        findings.append(f"took the averages named '{one_line(prefix, 60)}…' for the weights, as asked (--ema)")
        return replace(chosen, tensors=filled(averages, chosen, findings))
    findings.append(f"took the averages under '{one_line(chosen.place, 60)}', as asked (--ema)")
    weights = [one for one in found if not one.averaged and one.family == chosen.family]
    if len(weights) == 1 and weights[0].tensors.keys() > chosen.tensors.keys():
        return replace(chosen, tensors=filled(chosen.tensors, weights[0], findings))
    return chosen


def _named(found: Sequence[Candidate], key: str) -> list[Candidate]:
    """Those whose place is `key`, or has its parts one after the other."""
    if exact := [candidate for candidate in found if candidate.place == key]:
        return exact
    parts = f".{key.strip('.')}."
    fitting = [candidate for candidate in found if parts in f".{candidate.place}." and parts != ".."]
    if not fitting:
        raise CheckpointError(f"--key {one_line(key, 60)} names no known model in the file; it holds {_listed(found)}")
    return fitting


def _only(fitting: Sequence[Candidate]) -> Candidate:
    """The only one, or the first of several that are equal in every number. Raises CheckpointError."""
    first = fitting[0]
    if not all(_equal(first, other) for other in fitting[1:]):
        raise CheckpointError(f"{len(fitting)} models fit: {_listed(fitting)}; choose one with --key, such as "
                              f"--key {one_line(first.place, 60)}")
    return first


def _listed(candidates: Sequence[Candidate]) -> str:
    more = f" and {len(candidates) - SHOWN} more" if len(candidates) > SHOWN else ""
    return ", ".join(map(str, candidates[:SHOWN])) + more


def _equal(one: Candidate, other: Candidate) -> bool:
    return one.tensors.keys() == other.tensors.keys() and all(
        _same(tensor, other.tensors[name]) for name, tensor in one.tensors.items()
    )


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal; False for those that are no plain numbers."""
    alike = one.dtype == other.dtype and one.shape == other.shape
    return alike and stored_in_full(one) and stored_in_full(other) and torch.equal(one, other)
