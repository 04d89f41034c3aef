"""Which stage of a pipeline feeds which: found and checked once from the manifests, when the pipeline is made.

Stages are numbered from 0, in the order of drawing. Plain Python; no engine is needed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pixelsnail_infer.codec import CodecManifest, ImageSpec
from pixelsnail_infer.denoiser import LOW_RES, DenoiserManifest
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.manifest import ConditionSpec, Manifest
from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.requests.conditions import Conditioned, describe

__all__ = ["Links", "Wiring", "make_wiring"]

Links = Mapping[tuple[int, str], "int | None"]
"""Of (stage, condition): the earlier stage whose codes feed it, or None where the caller gives it."""

Grid = tuple[tuple[int, int], int]  # (h, w), levels


@dataclass(frozen=True, slots=True)
class Wiring:
    """`links` holds for each prior the conditions that earlier priors feed, by name; `conditions` are those that the
    caller gives, each name once. `names` are the levels of codes, in order. `drawn` are the images that come out, and
    `taken` those that can be completed. `enlarging` says of each denoiser whether the stage before gives its small
    pictures."""

    links: tuple[dict[str, int], ...]
    conditions: tuple[ConditionSpec, ...]
    names: tuple[str, ...]
    drawn: ImageSpec | None
    taken: ImageSpec | None
    enlarging: tuple[bool, ...] = ()


def make_wiring(
    priors: Sequence[Manifest], decoder: CodecManifest | None, encoder: CodecManifest | None, links: Links | None,
    denoisers: Sequence[DenoiserManifest] = (),
) -> Wiring:  # fmt: skip
    """Find the links between the stages. Raises `RequestError` where shapes or numbers of levels do not agree, where a
    condition has no single earlier prior to feed it, or where `links` says something that cannot be."""
    if not priors and (decoder is not None or not denoisers):
        raise RequestError("A pipeline has no prior; give at least one model that draws codes or images.")
    for stage, prior in enumerate(priors[:-1]):
        if prior.pixel.kind != "codes":
            raise RequestError(f"Stage {stage} draws images, so nothing can follow it; put it last.")
    grids = [(prior.shape, prior.levels) for prior in priors if prior.pixel.kind == "codes"]
    image = _image_of(priors[-1]) if priors else None
    if image is not None and decoder is not None:
        raise RequestError(f"Stage {len(priors) - 1} draws images, which no decoder can follow; leave the decoder out.")
    for codec in (decoder, encoder):
        if codec is not None:
            _check_codec(codec, grids)
    drawn = decoder.image if decoder is not None else image
    taken = encoder.image if encoder is not None else image if len(priors) == 1 else None
    if drawn is not None and taken is not None and drawn != taken:
        what = f"The encoder takes images {_image(taken)}, but the pipeline draws images {_image(drawn)}"
        raise RequestError(f"{what}; give the encoder and the decoder of one model, exported for one size.")
    enlarging = tuple(place > 0 or bool(priors) for place in range(len(denoisers)))
    for place, denoiser in enumerate(denoisers):
        if enlarging[place]:
            _check_enlarging(denoiser, drawn, len(priors) + place)
        drawn = denoiser.image
    spec = decoder or encoder
    names = tuple(level.name for level in spec.codes) if spec else tuple(f"codes{k}" for k in range(len(grids)))
    found = _links(priors, grids, dict(links or {}))
    fed = [*found, *({LOW_RES} if small else set[str]() for small in enlarging)]
    return Wiring(found, _conditions([*priors, *denoisers], fed), names, drawn, taken, enlarging)


def _links(
    priors: Sequence[Manifest], grids: Sequence[Grid], said: dict[tuple[int, str], int | None]
) -> tuple[dict[str, int], ...]:
    found: tuple[dict[str, int], ...] = tuple({} for _ in priors)
    for stage, prior in enumerate(priors):
        for spec in prior.conditions:
            if spec.kind == "codes":
                key = (stage, spec.name)
                source = _said(spec, grids, key, said.pop(key)) if key in said else _only_source(spec, grids, key)
                if source is not None:
                    found[stage][spec.name] = source
    if said:
        each = ((stage, spec) for stage, prior in enumerate(priors) for spec in prior.conditions)
        known = [str((stage, spec.name)) for stage, spec in each if spec.kind == "codes"]
        takes = f"expected only {', '.join(known)}" if known else "but no prior has a condition of codes"
        raise RequestError(f"links has the key {next(iter(said))!r}, {takes}.")
    return found


def _said(spec: ConditionSpec, grids: Sequence[Grid], key: tuple[int, str], source: int | None) -> int | None:
    """The link that the caller asked for, checked."""
    if source is None:
        return None
    if isinstance(source, bool) or not isinstance(source, int) or not 0 <= source < key[0]:
        what = f"an earlier stage, 0 to {key[0] - 1}, or None" if key[0] else "None: there is no earlier stage"
        raise RequestError(f"links[{key!r}] is {shown(source)}, expected {what}.")
    if grids[source] != _grid(spec):
        takes, draws = _codes([_grid(spec)]), _codes([grids[source]])
        what = f"links[{key!r}] is {source}, but stage {source} draws {draws}"
        raise RequestError(f"{what}, and the condition takes {takes}.")
    return source


def _only_source(spec: ConditionSpec, grids: Sequence[Grid], key: tuple[int, str]) -> int | None:
    """The one earlier prior that draws what the condition takes; None for the first stage, which has none before it."""
    stage, name = key
    if stage == 0:
        return None
    fitting = [source for source in range(stage) if grids[source] == _grid(spec)]
    if len(fitting) == 1:
        return fitting[0]
    draws = ", ".join(f"stage {source} {_codes([grid])}" for source, grid in enumerate(grids[:stage]))
    what = f"The condition {name!r} of stage {stage} takes {_codes([_grid(spec)])}, which "
    if fitting:
        which = " and ".join(map(str, fitting))
        raise RequestError(f"{what}stages {which} draw; say which with links={{{key!r}: {fitting[-1]}}}.")
    raise RequestError(
        f"{what}no earlier stage draws ({draws}); give the stage that draws them before it, or say links={{{key!r}: "
        f"None}} and pass {name}= to generate."
    )


def _conditions(stages: Sequence[Conditioned], feeds: Sequence[Collection[str]]) -> tuple[ConditionSpec, ...]:
    """What the caller gives: every condition that no stage feeds; equal names must mean the same."""
    wanted: dict[str, tuple[int, ConditionSpec]] = {}
    for stage, (model, fed) in enumerate(zip(stages, feeds, strict=True)):
        for spec in (spec for spec in model.conditions if spec.name not in fed):
            first, other = wanted.setdefault(spec.name, (stage, spec))
            if other != spec:
                raise RequestError(
                    f"Stages {first} and {stage} both have a condition {spec.name!r}, but one takes {describe(other)}, "
                    f"the other {describe(spec)}; export one of them with another name."
                )
    return tuple(spec for _, spec in wanted.values())


def _check_enlarging(denoiser: DenoiserManifest, drawn: ImageSpec | None, stage: int) -> None:
    """Raise `RequestError` unless the denoiser, stage number `stage`, enlarges the pictures `drawn` before it."""
    small = next((spec for spec in denoiser.conditions if spec.name == LOW_RES), None)
    if small is None:
        raise RequestError(f"Stage {stage} is a denoiser that takes no small pictures, so it can follow nothing; give "
                           "a super-resolution model there.")  # fmt: skip
    takes = ImageSpec(small.shape[0], (small.shape[1], small.shape[2]))
    if drawn != takes:
        draws = "no images" if drawn is None else f"images {_image(drawn)}"
        raise RequestError(f"Stage {stage} enlarges images {_image(takes)}, but what comes before it draws {draws}; "
                           "give models that fit together.")  # fmt: skip


def _check_codec(codec: CodecManifest, grids: Sequence[Grid]) -> None:
    held = [(level.shape, level.levels) for level in codec.codes]
    if held != list(grids):
        names = ", ".join(level.name for level in codec.codes)
        does = "takes" if codec.kind == "decoder" else "gives"
        what = f"The {codec.kind} {does} {_codes(held)} ({names}), but the priors draw {_codes(grids) or 'no codes'}"
        raise RequestError(f"{what}; give the priors of this {codec.kind}'s model, in this order.")


def _image_of(prior: Manifest) -> ImageSpec | None:
    return None if prior.pixel.channels is None else ImageSpec(prior.pixel.channels, prior.shape)


def _grid(spec: ConditionSpec) -> Grid:
    return (spec.shape[0], spec.shape[1]), spec.levels or 0


def _codes(grids: Iterable[Grid]) -> str:
    return ", then ".join(f"codes {h}×{w} of {levels} levels" for (h, w), levels in grids)


def _image(spec: ImageSpec) -> str:
    return f"{spec.shape[0]}×{spec.shape[1]} of {spec.channels} {spec.values}"
