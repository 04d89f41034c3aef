"""What a command exports or verifies: a network, and all that must be known of it, from a checkpoint and options."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from pixelsnail_infer.checkpoints import LoadedCheckpoint
from pixelsnail_infer.checkpoints.fitting import load_into
from pixelsnail_infer.distributions import Categorical, Distribution, LogisticMixture, distribution_of
from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.export.source.checkpoint_options import canvas, conditions_of, law_of
from pixelsnail_infer.export.source.declared import condition_specs, named_condition, sizes_of
from pixelsnail_infer.export.source.option_scope import refuse_beside_own_model
from pixelsnail_infer.export.source.user_model import model_arguments, user_model
from pixelsnail_infer.manifest import ConditionSpec, Manifest

__all__ = ["SourceModel", "describe", "listed", "plain_config", "own_model", "recognised_model"]


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


def recognised_model(checkpoint: LoadedCheckpoint, rounded: bool) -> SourceModel:
    """A checkpoint of a known family. Raises `PixelsnailError` for colours of other than 8 bits."""
    return SourceModel(checkpoint.family, checkpoint.module, law_of(checkpoint, rounded), checkpoint.config.shape,
                       conditions_of(checkpoint), checkpoint.family, plain_config(checkpoint.config), checkpoint.sha256,
                       tuple(checkpoint.findings))


def plain_config(config: Any) -> dict[str, Any]:
    """A family's configuration (a dataclass) as the manifest holds it: tuples become lists."""
    return {key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(config).items()}


@contextmanager
def own_model(args: argparse.Namespace, manifest: Manifest | None = None) -> Iterator[SourceModel]:
    """The user's own class with the checkpoint's weights; its code runs within the context only.

    What is not given is taken from the `manifest` of its export, where there is one, else asked for. Raises
    `PixelsnailError`, `ModelError` or `CheckpointError`.
    """
    refuse_beside_own_model(args)
    law, shape = _law(args), canvas(args)
    specs = condition_specs([named_condition(text) for text in args.condition or ()])
    if manifest is not None:
        law, shape, specs = _as_exported(args, manifest, law, shape, specs)
    missing = [what for what, given in (("--levels N (codes) or --mixture N_MIXxCHANNELS (images)", law),
                                        ("--shape HxW", shape)) if given is None]
    if law is None or shape is None:
        raise PixelsnailError(f"--model needs {' and '.join(missing)} as well: a class does not tell what it draws.")
    arguments, findings = model_arguments(args.model_args), list[str]()
    with user_model(args.own_model, arguments) as module:
        sha256 = load_into(module, args.checkpoint, findings)
        name = args.own_model.replace("\\", "/").rpartition("/")[2]
        yield SourceModel(name, module, law, shape, specs, "custom", {"model": name, "arguments": arguments}, sha256,
                          tuple(findings))


def _law(args: argparse.Namespace) -> Distribution | None:
    """`--levels` or `--mixture`."""
    if args.levels is not None and args.mixture is not None:
        raise PixelsnailError("--levels is for codes and --mixture for images; give one of the two.")
    if args.levels is not None:
        if args.levels < 1:
            raise PixelsnailError(f"--levels is {args.levels}, expected the number of codes, 1 or more.")
        if args.round:
            raise PixelsnailError("--round is for images (--mixture); codes are whole numbers already.")
        return Categorical(args.levels)
    if args.mixture is None:
        return None
    sizes = sizes_of(args.mixture, 2)
    if sizes is None or sizes[1] not in (1, 3):
        raise PixelsnailError(f"--mixture is {args.mixture!r}, expected logistics x channels, such as 10x3 for colour "
                              "or 10x1 for grey.")
    return LogisticMixture(n_mix=sizes[0], channels=sizes[1], round=args.round)


def _as_exported(args: argparse.Namespace, manifest: Manifest, law: Distribution | None, shape: tuple[int, int] | None,
                 specs: tuple[ConditionSpec, ...]) -> tuple[Distribution, tuple[int, int], tuple[ConditionSpec, ...]]:
    """What the manifest says; options that say something else are refused."""
    exported = distribution_of(manifest)
    for flag, given, there in (("--levels or --mixture", law, exported), ("--shape", shape, manifest.shape),
                               ("--condition", specs or None, manifest.conditions)):
        if given is not None and given != there:
            raise PixelsnailError(f"{flag} says {given}, but {args.model} was exported with {there}; leave it out.")
    return exported, manifest.shape, manifest.conditions


def describe(source: SourceModel) -> list[str]:
    """What was recognised and how sure that is, line by line."""
    law, (height, width) = source.distribution, source.shape
    what = f"pixels of {law.channels} channels, mixtures of {law.n_mix} logistics" if isinstance(law, LogisticMixture) \
        else f"codes, {law.parameters} levels"
    ignored = any(finding.startswith("ignored") for finding in source.findings)
    if source.family == "custom":
        head = f"your own {source.name}, {height}x{width} {what}"
    else:
        place = "every tensor of the file has its place" + (" but those named below" if ignored else "")
        head = f"recognised a {source.family} of {height}x{width} {what}: {place}"
    return [head, *listed(source.findings)]


def listed(findings: Sequence[str]) -> list[str]:
    """What was found out about a checkpoint, line by line; what was assumed comes last."""
    assumed = [finding for finding in findings if "assumed" in finding]
    lines = [f"  {finding}" for finding in findings if finding not in assumed]
    return [*lines, *(["  the file does not tell, so check:"] if assumed else ()), *(f"    {one}" for one in assumed)]
