"""A model taken out of a file: found, chosen, parted from what lies around it, and all of that said."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from pixelsnail_infer.checkpoints.averages import dotless_averages
from pixelsnail_infer.checkpoints.beside import is_training_only, left_aside
from pixelsnail_infer.checkpoints.candidates import Candidate, Recognise, dictionaries, find_candidates, tensors_of
from pixelsnail_infer.checkpoints.choosing import choose, with_averages
from pixelsnail_infer.checkpoints.first_stage import INSIDE, training_names
from pixelsnail_infer.checkpoints.unet import LATENT
from pixelsnail_infer.errors import CheckpointError
from pixelsnail_infer.messages import one_line

__all__ = ["Taken", "largest", "take", "top_keys"]

WRAPPERS = ("model", "state_dict", "model_state_dict")
"""Entries under which a model is usually: they are not worth a line."""
SHOWN = 8


@dataclass(frozen=True, slots=True)
class Taken:
    """A model's tensors, by their names without prefix, and what was left aside."""

    family: str
    tensors: dict[str, Tensor]
    beside: list[str]


def take(
    content: object,
    marks: re.Pattern[str],
    recognise: Recognise,
    *,
    key: str | None,
    ema: bool,
    findings: list[str],
    is_needless: Callable[[str, Tensor], bool] = is_training_only,
) -> Taken | None:
    """The model that the file holds, or None where none is recognised. Appends to `findings`.

    `is_needless` tells which tensors under the model's prefix are not the model's.

    Raises:
        CheckpointError: several models fit, or what `key` or `ema` asks for is not there.
    """
    found = [replace(one, tensors={n: t for n, t in one.tensors.items() if not is_needless(n, t)})
             for one in find_candidates(content, marks, recognise) if not one.prefix.startswith(LATENT)]
    if not found:
        return None
    whole = choose(found, key, ema)
    entry = _entry(content, whole, findings)
    names = tensors_of(entry)
    spoken = _say_names(whole, names, len(entry), ema, findings)
    own = {name: tensor for name, tensor in whole.tensors.items() if whole.prefix + name not in spoken}
    chosen = with_averages(replace(whole, tensors=own), found, names, ema, findings)
    averages = [] if ema else list(dotless_averages(replace(whole, tensors=own), found, names))
    beside = left_aside(content, whole, found, averages, spoken | {whole.prefix + name for name in own})
    if whole.averaged and not ema:
        beside.insert(0, f"the weights under '{one_line(whole.place, 60)}' are averages by their name")
    return Taken(whole.family, chosen.tensors, beside)


def _entry(content: object, chosen: Candidate, findings: list[str]) -> Mapping[Any, object]:
    """The dictionary of the chosen model. Appends to `findings` how it was reached."""
    assert isinstance(content, Mapping)
    entry: Mapping[Any, Any] = content
    for key in chosen.keys:
        usual = [name for name in WRAPPERS if isinstance(entry.get(name), Mapping)]
        if key in usual and len(usual) > 1:
            findings.append(f"the file holds {' and '.join(usual)}; took '{key}'")
        elif key not in usual:
            findings.append(f"took the weights under '{one_line(key, 40)}'")
        entry = entry[key]
    return entry


def _say_names(chosen: Candidate, names: Mapping[str, Tensor], total: int, ema: bool, findings: list[str]) -> set[str]:
    """Append to `findings` which names the model has in its dictionary; those that belong to its training."""
    start = INSIDE if chosen.prefix.startswith(INSIDE) else ""
    prefix, within = chosen.prefix[len(start):], [name[len(start):] for name in names if name.startswith(start)]
    if start:
        findings.append(f"took the first stage ('{start}…', {len(within)} tensors) out of a model of {total}")
    training = training_names(within, ema, findings) if chosen.family == "vq-first-stage" else set()
    if all(name.startswith(prefix) or name in training for name in within):
        findings += [f"took the prefix '{one_line(part, 40)}.' off every name" for part in prefix.split(".")[:-1]]
    else:
        inside = sum(name.startswith(prefix) for name in within)
        findings.append(f"took the {inside} tensors named '{one_line(prefix, 60)}…' of {len(within)}")
    return {start + name for name in training}


def largest(content: object, key: str | None) -> dict[str, Tensor]:
    """The tensors of the dictionary that has the most, where no model is recognised; what to say of them is left.

    Raises:
        CheckpointError: there are no tensors at all, or `key` is given.
    """
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"the file holds a {type(content).__name__}; expected a state dict (names to tensors), bare or as an entry "
            "of a dictionary: save the model's state_dict()"
        )
    if key is not None:
        raise CheckpointError(f"--key {one_line(key, 60)}: no known model is in the file; it holds {top_keys(content)}")
    tensors = max((tensors_of(entry) for _, entry in dictionaries(content)), key=len)
    if not tensors:
        raise CheckpointError(f"no weights were found: it holds {top_keys(content)}. Expected names and tensors, bare "
                              "or as an entry of a dictionary: save the model's state_dict()")
    return tensors


def top_keys(content: Mapping[Any, object]) -> str:
    """The first keys of a file, for messages."""
    keys = [one_line(key, 30) if isinstance(key, str) else f"a key of type {type(key).__name__}" for key in content]
    return (", ".join(keys[:SHOWN]) or "nothing") + (f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")
