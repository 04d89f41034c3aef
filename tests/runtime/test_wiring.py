"""What feeds what in a pipeline, and every way in which stages do not fit together; from manifests alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pixelsnail_infer.codec import CodecManifest, CodesSpec, ImageSpec
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.manifest import (
    CheckpointSpec,
    DistributionSpec,
    FileSpec,
    Manifest,
    ModelSpec,
    NoiseSpec,
    PixelSpec,
)
from pixelsnail_infer.runtime import Pipeline, Sampler
from pixelsnail_infer.runtime.pipeline.wiring import make_wiring

from .chain import Toy


def prior(shape: tuple[int, int], levels: int, **more: Any) -> Manifest:
    files = {part: FileSpec("0" * 64, 1) for part in ("row", "prologue")}
    return Toy(shape, levels, **more).manifest(files)


def images(shape: tuple[int, int], **more: Any) -> Manifest:
    law = {"distribution": DistributionSpec("logistic-mixture", 2, False), "noise": NoiseSpec(1, 5)}
    return replace(prior(shape, 9, **more), pixel=PixelSpec("channels", channels=3), **law)


def codec(kind: str, *levels: tuple[str, tuple[int, int], int], image: ImageSpec | None = None) -> CodecManifest:
    return CodecManifest(
        kind=kind, model=ModelSpec("toy", {}), image=image or ImageSpec(3, (64, 64)),
        codes=tuple(CodesSpec(*level) for level in levels), precision="float32", checkpoint=CheckpointSpec("0" * 64),
        parameters=1, versions={},
    )  # fmt: skip


TOP = prior((8, 8), 16)
BOTTOM = prior((16, 16), 32, condition=(8, 8, 16))
LEVELS = (("top", (8, 8), 16), ("bottom", (16, 16), 32))


def test_a_condition_is_fed_by_the_prior_that_draws_what_it_takes() -> None:
    wiring = make_wiring([TOP, BOTTOM], codec("decoder", *LEVELS), codec("encoder", *LEVELS), None)
    assert wiring.links == ({}, {"condition": 0}) and wiring.conditions == () and wiring.names == ("top", "bottom")
    assert wiring.drawn == wiring.taken == ImageSpec(3, (64, 64))
    middle = prior((16, 16), 32, condition=(8, 8, 16), labels=3)
    fine = prior((32, 32), 4, condition=(16, 16, 32), labels=3)
    wiring = make_wiring([prior((8, 8), 16, labels=3), middle, fine], None, None, None)
    assert wiring.links == ({}, {"condition": 0}, {"condition": 1}) and wiring.drawn is wiring.taken is None
    assert [spec.name for spec in wiring.conditions] == ["label"] and wiring.names == ("codes0", "codes1", "codes2")


def test_the_first_priors_conditions_are_the_callers() -> None:
    wiring = make_wiring([BOTTOM], codec("decoder", LEVELS[1]), None, None)
    assert wiring.links == ({},) and [spec.name for spec in wiring.conditions] == ["condition"]


def test_links_say_what_cannot_be_found() -> None:
    other = prior((16, 16), 32, condition=(8, 8, 16))
    two_sources = (
        r"'condition' of stage 2 takes codes 8×8 of 16 levels, which stages 0 and 1 draw; say which with "
        r"links={\(2, 'condition'\): 1}"
    )
    with pytest.raises(RequestError, match=two_sources):
        make_wiring([TOP, TOP, other], None, None, None)
    assert make_wiring([TOP, TOP, other], None, None, {(2, "condition"): 0}).links[2] == {"condition": 0}
    fine = prior((16, 16), 32, condition=(4, 4, 16))
    no_source = (
        r"takes codes 4×4 of 16 levels, which no earlier stage draws \(stage 0 codes 8×8 of 16 levels\); .* "
        r"links={\(1, 'condition'\): None} and pass condition= to generate"
    )
    with pytest.raises(RequestError, match=no_source):
        make_wiring([TOP, fine], None, None, None)
    wiring = make_wiring([TOP, fine], None, None, {(1, "condition"): None})
    assert wiring.links == ({}, {}) and [spec.name for spec in wiring.conditions] == ["condition"]
    assert make_wiring([TOP, BOTTOM], None, None, {(1, "condition"): None}).links == ({}, {})


@pytest.mark.parametrize(
    "links, message",
    [
        ({(1, "label"): 0}, r"links has the key \(1, 'label'\), expected only \(1, 'condition'\)"),
        ({(0, "condition"): 0}, "expected only"),
        ({"condition": 0}, "links has the key 'condition'"),
        ({(1, "condition"): 1}, "is 1, expected an earlier stage, 0 to 0, or None"),
        ({(1, "condition"): True}, "is True, expected an earlier stage"),
        ({(1, "condition"): "top"}, "is 'top', expected an earlier stage"),
    ],
)
def test_links_that_cannot_be_are_refused(links: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make_wiring([TOP, BOTTOM], None, None, links)


def test_a_link_between_codes_that_differ_is_refused() -> None:
    with pytest.raises(RequestError, match="is 1, but stage 1 draws codes 16×16 of 32 levels, and the condition"):
        make_wiring([TOP, BOTTOM, BOTTOM], None, None, {(2, "condition"): 1})
    with pytest.raises(RequestError, match="expected None: there is no earlier stage"):
        make_wiring([BOTTOM], None, None, {(0, "condition"): 0})
    with pytest.raises(RequestError, match="but no prior has a condition of codes"):
        make_wiring([TOP], None, None, {(0, "condition"): None})


@pytest.mark.parametrize(
    "priors, levels",
    [([TOP], LEVELS), ([BOTTOM, TOP], LEVELS), ([TOP, BOTTOM], LEVELS[:1]), ([TOP], (("top", (8, 8), 17),))],
)
def test_a_decoder_must_take_what_the_priors_draw(priors: list[Manifest], levels: Any) -> None:
    links = {(stage, "condition"): None for stage, one in enumerate(priors) if one.conditions}
    with pytest.raises(RequestError, match=r"The decoder takes codes 8×8 of 1[67] levels.* but the priors draw codes"):
        make_wiring(priors, codec("decoder", *levels), None, links)


def test_a_prior_of_images_comes_last_and_alone() -> None:
    wiring = make_wiring([images((8, 8))], None, None, None)
    assert wiring.drawn == wiring.taken == ImageSpec(3, (8, 8)) and wiring.names == ()
    wiring = make_wiring([TOP, images((64, 64), condition=(8, 8, 16))], None, None, None)
    assert wiring.links[1] == {"condition": 0} and wiring.names == ("codes0",) and wiring.taken is None
    with_encoder = make_wiring([TOP, images((64, 64))], None, codec("encoder", LEVELS[0]), None)
    assert with_encoder.taken == ImageSpec(3, (64, 64)) and with_encoder.names == ("top",)
    with pytest.raises(RequestError, match="Stage 0 draws images, so nothing can follow it; put it last"):
        make_wiring([images((8, 8)), TOP], None, None, None)
    with pytest.raises(RequestError, match="which no decoder can follow"):
        make_wiring([TOP, images((8, 8))], codec("decoder", LEVELS[0]), None, None)


def test_conditions_of_one_name_must_mean_the_same() -> None:
    with pytest.raises(RequestError, match="Stages 0 and 1 both have a condition 'label', but one takes .*0…2.*0…3"):
        make_wiring([prior((8, 8), 16, labels=3), prior((4, 4), 16, labels=4)], None, None, None)


def test_stages_must_be_what_was_loaded_and_in_order() -> None:
    sampler = Sampler(TOP, None, None)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=r"stages\[1\] is a str, expected what load or load_decoder returns; load"):
        Pipeline([sampler, "decoder.onnx"])  # type: ignore[list-item]
    with pytest.raises(RequestError, match="no prior; give at least one"):
        Pipeline([])
    clash = Sampler(prior((8, 8), 16, condition=(4, 4, 3), name="keep"), None, None)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="'keep' has the name of an argument of generate"):
        Pipeline([clash])
    fed = Sampler(prior((8, 8), 16, condition=(8, 8, 16), name="keep"), None, None)  # type: ignore[arg-type]
    assert Pipeline([sampler, fed]).wiring.links[1] == {"keep": 0}
