"""Conditions as people declare them, `class:10` or `codes:32x32:512`, and what the exporter makes of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence

from pixelsnail_infer.checkpoints.option import sizes_of
from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.manifest import ConditionSpec
from pixelsnail_infer.runtime import Sampler

__all__ = ["EXPECTED", "Conditions", "condition_specs", "declared_text", "named_condition"]

Conditions = Mapping[str, "str | ConditionSpec"] | Sequence[ConditionSpec]
FORMS = {"class": "class:10", "codes": "codes:32x32:512", "vector": "vector:512", "map": "map:3x32x32"}
RANKS = {"class": 0, "codes": 2, "vector": 1, "map": 3}  # how many sizes
EXPECTED = "class:LEVELS, codes:ROWSxCOLUMNS:LEVELS, vector:NUMBERS or map:CHANNELSxROWSxCOLUMNS"


def condition_specs(conditions: Conditions) -> tuple[ConditionSpec, ...]:
    """The conditions in order. A mapping goes from names to declarations, as text or as `ConditionSpec`s.

    Raises `ModelError` for a declaration that cannot be read or a name that is no argument's or occurs twice.
    """
    if isinstance(conditions, Mapping):
        specs = tuple(_checked(name, _declared(name, what) if isinstance(what, str) else what)
                      for name, what in conditions.items())
    else:
        specs = tuple(_checked(getattr(spec, "name", repr(spec)), spec) for spec in conditions)
    names = [spec.name for spec in specs]
    for method in (Sampler.sample, Sampler.replay, Sampler.score):
        for name in set(names) & (inspect.signature(method).parameters.keys() - {"conditions"}):
            raise ModelError(f"the condition's name {name!r} is an argument of the runtime's {method.__name__}; use "
                             "another, and give forward= a function that passes it on.")
    for name in names:
        if names.count(name) > 1:
            raise ModelError(f"condition {name!r} is declared twice; every condition has a name of its own.")
    return specs


def named_condition(text: str) -> ConditionSpec:
    """`NAME:KIND:…` as on the command line. Raises `ModelError`."""
    name, colon, declaration = text.partition(":")
    if not colon:
        raise ModelError(f"the condition {text!r} has no kind; expected NAME: and then one of {EXPECTED}.")
    return _checked(name, _declared(name, declaration))


def _declared(name: str, text: str) -> ConditionSpec:
    if not name.isidentifier():
        raise ModelError(f"the condition's name {name!r} is no name of a Python argument, as the forward needs.")
    kind, *rest = text.split(":")
    if kind not in FORMS:
        raise ModelError(f"condition {name!r}: {text!r} is of no known kind; expected one of {EXPECTED}.")
    spatial, counted = RANKS[kind], kind in ("class", "codes")
    if len(rest) != (spatial > 0) + counted:
        raise ModelError(f"condition {name!r}: {text!r} has {len(rest)} parts after {kind!r}; expected such as "
                         f"{FORMS[kind]}.")
    shape = sizes_of(rest[0], spatial) if spatial else ()
    levels = sizes_of(rest[-1], 1) if counted else (None,)
    if shape is None or levels is None:
        wrong = rest[0] if shape is None else rest[-1]
        raise ModelError(f"condition {name!r}: {wrong!r} in {text!r} is not what belongs there; positive integers are "
                         f"expected, as in {FORMS[kind]}.")
    return ConditionSpec(name, kind, shape, "int64" if counted else "float32", levels[0])


def _checked(name: str, spec: object) -> ConditionSpec:
    if not isinstance(spec, ConditionSpec):
        raise ModelError(f"condition {name} is declared by a {type(spec).__name__}; expected one of {EXPECTED}, or a "
                         "ConditionSpec.")
    if spec.name != name:
        raise ModelError(f"condition {name!r} is declared by a ConditionSpec of the name {spec.name!r}; use one name.")
    return spec


def declared_text(specs: Iterable[ConditionSpec]) -> str:
    """The conditions as they are declared, for messages."""
    return ", ".join(f"{s.name}:{s.kind}" + "".join(f":{p}" for p in ("x".join(map(str, s.shape)), s.levels) if p)
                     for s in specs) or "none"
