"""The manifest of decoders and encoders: exact round trips, and a named refusal of everything else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pixelsnail_infer.codec import CodecManifest, CodesSpec, ImageSpec
from pixelsnail_infer.document import kind_of
from pixelsnail_infer.errors import ManifestError
from pixelsnail_infer.manifest import CheckpointSpec, Manifest, ModelSpec

SHA = "0123456789abcdef" * 4


def make(**changed: Any) -> CodecManifest:
    values: dict[str, Any] = dict(  # noqa: C408 - reads like the call
        kind="decoder", model=ModelSpec("vq-vae-2", {"channel": 8}), image=ImageSpec(3, (16, 8)),
        codes=(CodesSpec("top", (2, 1), 7), CodesSpec("bottom", (4, 2), 9)), precision="float32",
        checkpoint=CheckpointSpec(SHA), parameters=12, versions={"torch": "2"}, verification={"decode": {"max": 1e-6}},
        notes=("one", "two"),
    )  # fmt: skip
    return CodecManifest(**{**values, **changed})


def edited(path: str, value: Any) -> str:
    """The manifest's JSON with the entry at a dotted path set."""
    document: Any = json.loads(make().to_json())
    held, keys = document, [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in keys[:-1]:
        held = held[key]
    held[keys[-1]] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    "changed",
    [{}, {"kind": "encoder"}, {"image": ImageSpec(1, (80, 344), "log-mel"), "codes": (CodesSpec("codes", (1, 1), 1),)}],
)
def test_round_trips_are_exact(changed: dict[str, Any]) -> None:
    manifest = make(**changed)
    again = CodecManifest.from_json(manifest.to_json())
    assert again == manifest and again.to_json() == manifest.to_json()
    assert kind_of(manifest.to_json()) == manifest.kind
    assert next(iter(json.loads(manifest.to_json()))) == "format_version"


@pytest.mark.parametrize(
    "path, value, message",
    [
        ("format_version", 2, "format version 2, but this runtime reads version 1"),
        ("kind", "prior", "kind is 'prior', but this version knows only 'decoder', 'encoder'"),
        ("surprise", 1, "unknown key 'surprise'"),
        ("image.channels", 2, "image.channels is 2"),
        ("image.values", "watts", "image.values is 'watts'"),
        ("image.shape", [16], "image.shape has 1 entries, expected 2"),
        ("image.shape.0", 0, r"image.shape is \[0, 8\]"),
        ("codes", [], "codes is empty, expected one level at least"),
        ("codes.0.name", "bottom", "codes names one level twice"),
        ("codes.0.name", "image", "named 'image', expected an identifier other than 'image'"),
        ("codes.0.name", "a b", "named 'a b', expected an identifier"),
        ("codes.0.levels", 0, "codes 'top': levels is 0"),
        ("codes.0.shape", [4, 4], "a finer grid before a coarser one"),
        ("codes.1.shape", [0, 4], r"codes 'bottom': shape is \[0, 4\]"),
        ("codes.1.levels", "9", "levels is the string '9', expected an integer"),
        ("precision", "float16", "precision is 'float16'"),
        ("parameters", -1, "parameters is -1"),
        ("parameters", {"total": 1}, "manifest.parameters is an object, expected an integer"),
        ("checkpoint.sha256", "abc", "checkpoint.sha256 is 'abc'"),
    ],
)
def test_a_wrong_value_is_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        CodecManifest.from_json(edited(path, value))


@pytest.mark.parametrize("key", list(json.loads(make().to_json())))
def test_every_key_is_needed(key: str) -> None:
    document = json.loads(make().to_json())
    del document[key]
    message = "format version None" if key == "format_version" else f"lacks the key '{key}'"
    with pytest.raises(ManifestError, match=message):
        CodecManifest.from_json(json.dumps(document))


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(ManifestError, match="cannot be written as JSON"):
        make(model=ModelSpec("toy", {"x": float("inf")})).to_json()


def test_a_text_that_names_no_kind_has_none() -> None:
    assert kind_of("{}") is None and kind_of('{"kind": 3}') is None
    with pytest.raises(ManifestError, match="is a list"):
        kind_of("[1]")


def test_a_prior_is_not_read_as_a_codec_nor_a_codec_as_a_prior() -> None:
    with pytest.raises(ManifestError):
        Manifest.from_json(make().to_json())
