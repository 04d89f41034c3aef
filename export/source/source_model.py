"""What a command exports or verifies: a network, and all that must be known of it, from a checkpoint and options."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from pixelsnail_infer.checkpoints import LoadedCheckpoint
from pixelsnail_infer.checkpoints.fitting import load_into
from pixelsnail_infer.distributions import Categorical, Distribution, LogisticMixture, distribution_of
from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.export.source.families import conditions_of, law_of
from pixelsnail_infer.export.source.option_scope import refuse_beside_own_model
from pixelsnail_infer.export.source.options import SourceOptions
from pixelsnail_infer.export.source.user_model import user_model
from pixelsnail_infer.manifest import ConditionSpec, Manifest

__all__ = ["SourceModel", "as_exported", "describe", "listed", "plain_config", "own_model", "recognised_model"]


@dataclass(frozen=True, slots=True)
class SourceModel:
    """A network, how its pixels are distributed, its canvas and conditions, and what was found out about it."""

    name: str
    module: nn.Module
    distribution: Distribution
    shape: tuple[int, int]
    conditions: tuple[ConditionSpec, ...]
    family: str
    config: dict[str, Any]
    sha256: str
    findings: tuple[str, ...]
    beside: tuple[str, ...] = ()
    """What else the file holds, for people: no part of the export."""


def recognised_model(checkpoint: LoadedCheckpoint, rounded: bool) -> SourceModel:
    """A checkpoint of a known family. Raises `PixelsnailError` for colours of other than 8 bits."""
    return SourceModel(checkpoint.family, checkpoint.module, law_of(checkpoint, rounded), checkpoint.config.shape,
                       conditions_of(checkpoint), checkpoint.family, plain_config(checkpoint.config), checkpoint.sha256,
                       tuple(checkpoint.findings), tuple(checkpoint.beside))


def plain_config(config: Any) -> dict[str, Any]:
    """A family's configuration (a dataclass) as the manifest holds it: tuples become lists."""
    return {key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(config).items()}


@contextmanager
def own_model(path: str | os.PathLike[str], options: SourceOptions) -> Iterator[SourceModel]:
    """The user's own class, `options.model`, with the weights of `path`; its code runs within the context only.

    Raises `PixelsnailError`, `ModelError` or `CheckpointError`.
    """
    assert options.model is not None
    refuse_beside_own_model(options)
    law, shape = _law(options), options.shape
    missing = [what for what, value in (("--levels N (codes) or --mixture N_MIXxCHANNELS (images)", law),
                                        ("--shape HxW", shape)) if value is None]
    if law is None or shape is None:
        raise PixelsnailError(f"--model needs {' and '.join(missing)} as well: a class does not tell what it draws.")
    arguments, findings, beside = options.model_args or {}, list[str](), list[str]()
    with user_model(options.model, arguments) as module:
        sha256 = load_into(module, path, findings, key=options.key, ema=options.averages, beside=beside)
        name = options.model.replace("\\", "/").rpartition("/")[2]
        yield SourceModel(name, module, law, shape, options.condition or (), "custom",
                          {"model": name, "arguments": arguments}, sha256, tuple(findings), tuple(beside))


def as_exported(options: SourceOptions, manifest: Manifest, name: str) -> SourceOptions:
    """With what the manifest of `name`, an export of the user's own class, tells. Raises `PixelsnailError` where an
    option says something else."""
    law = distribution_of(manifest)
    for what, value, there in (("--levels or --mixture", _law(options), law),
                               ("--shape", options.shape, manifest.shape),
                               ("--condition", options.condition, manifest.conditions)):
        if value is not None and value != there:
            raise PixelsnailError(f"{what} says {value}, but {name} was exported with {there}; leave it out.")
    mixture = (law.n_mix, law.channels) if isinstance(law, LogisticMixture) else None
    return replace(options, levels=None if mixture else manifest.levels, mixture=mixture, shape=manifest.shape,
                   round=bool(manifest.distribution.round), condition=manifest.conditions)


def _law(options: SourceOptions) -> Distribution | None:
    """Of `levels` or `mixture`."""
    if options.levels is not None and options.mixture is not None:
        raise PixelsnailError("--levels is for codes and --mixture for images; give one of the two.")
    if options.levels is not None:
        if options.round:
            raise PixelsnailError("--round is for images (--mixture); codes are whole numbers already.")
        return Categorical(options.levels)
    if options.mixture is None:
        return None
    n_mix, channels = options.mixture
    return LogisticMixture(n_mix=n_mix, channels=channels, round=options.round)


def describe(source: SourceModel) -> list[str]:
    """What was recognised and how sure that is, line by line."""
    law, (height, width) = source.distribution, source.shape
    what = f"pixels of {law.channels} channels, mixtures of {law.n_mix} logistics" if isinstance(law, LogisticMixture) \
        else f"codes, {law.parameters} levels"
    ignored = any(finding.startswith("ignored") for finding in source.findings)
    if source.family == "custom":
        head = f"your own {source.name}, {height}x{width} {what}"
    else:
        whole = "model" if source.beside else "file"
        place = f"every tensor of the {whole} has its place" + (" but those named below" if ignored else "")
        head = f"recognised a {source.family} of {height}x{width} {what}: {place}"
    return [head, *listed(source.findings, source.beside)]


def listed(findings: Sequence[str], beside: Sequence[str] = ()) -> list[str]:
    """What was found out about a checkpoint, line by line, and what was left aside; what was assumed comes last."""
    assumed = [finding for finding in findings if "assumed" in finding]
    lines = [f"  {finding}" for finding in findings if finding not in assumed]
    lines += [f"  {line}" for line in beside]
    return [*lines, *(["  the file does not tell, so check:"] if assumed else ()), *(f"    {one}" for one in assumed)]
