"""What a file holds besides the model that was taken out of it, in a few short lines."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from torch import Tensor

from pixelsnail_infer.checkpoints.candidates import Candidate
from pixelsnail_infer.messages import one_line

__all__ = ["is_training_only", "left_aside"]

SHOWN = 8
TRAINING = re.compile(
    r"(?:loss(?:es|_fn)?|criterion|perceptual(?:_loss)?|lpips|vgg\d*|disc|discriminator|(?:\w+_)?metrics?"
    r"|(?:\w+_)?ema(?:_\w+)?)\.|colorize$"
)


def is_training_only(name: str, tensor: Tensor) -> bool:
    """Whether a tensor beside a model's own is a loss's, a metric's, an average's, or a counter."""
    counter = "." not in name and tensor.numel() == 1 and not tensor.is_floating_point()
    return counter or TRAINING.match(name) is not None


def left_aside(
    content: object, chosen: Candidate, found: Sequence[Candidate], averages: Iterable[str], taken: Collection[str]
) -> list[str]:
    """One line for the other models, one for averages, one for other tensors; none where the model is all.

    `averages` are prefixes of averages in the model's dictionary; `taken` the names there that are used or spoken of.
    """
    others = [other for other in found if other.parts != chosen.parts]
    lines = []
    for other in others[:SHOWN]:
        how = "averages, --ema takes them" if other.averaged and not chosen.averaged else "--key takes it"
        lines.append(f"left aside {other}: {how}")
    if len(others) > SHOWN:
        lines.append(f"left aside {len(others) - SHOWN} more models")
    lines += [f"left aside the averages named '{one_line(prefix, 60)}…': --ema takes them" for prefix in averages]
    told = {part for other in others for part in _beginnings(other.parts)} | {p.rstrip(".") for p in averages}
    groups = {name: count for name, count in _groups(content, chosen.keys, taken).items() if count and name not in told}
    if groups:
        shown = [f"{one_line(name, 40)} ({count})" for name, count in list(groups.items())[:SHOWN]]
        more = f" and {len(groups) - SHOWN} more groups" if len(groups) > SHOWN else ""
        lines.append(f"left aside {sum(groups.values())} other tensors: {', '.join(shown)}{more}")
    return lines


def _beginnings(parts: Sequence[str]) -> list[str]:
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _groups(content: object, keys: Sequence[str], taken: Collection[str]) -> dict[str, int]:
    """How many tensors are beside the way to the model's dictionary, and in it, by key or first part of the name."""
    groups: dict[str, int] = {}
    entry = content
    for depth in range(len(keys) + 1):
        if not isinstance(entry, Mapping):
            break
        last = depth == len(keys)
        for key, value in entry.items():
            if (last and key in taken) or (not last and key == keys[depth]):
                continue
            first = key.partition(".")[0] if isinstance(key, str) else str(type(key).__name__)
            name = ".".join([*keys[:depth], first])
            groups[name] = groups.get(name, 0) + _count(value)
        entry = None if last else entry[keys[depth]]
    return groups


def _count(value: object) -> int:
    """The tensors in a value, each container once."""
    count, ahead, seen = 0, [value], set[int]()
    while ahead:
        one = ahead.pop()
        if isinstance(one, Tensor):
            count += 1
        elif isinstance(one, (Mapping, list, tuple, set)) and id(one) not in seen:
            seen.add(id(one))
            ahead += one.values() if isinstance(one, Mapping) else one
    return count
