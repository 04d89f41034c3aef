"""The manifest: exact round trips, and a refusal that says what to do for everything unknown, missing or mistyped."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pixelsnail_infer.errors import ManifestError
from pixelsnail_infer.manifest import (
    PARTS,
    CheckpointSpec,
    ConditionSpec,
    DistributionSpec,
    FileSpec,
    Manifest,
    ModelSpec,
    NoiseSpec,
    ParameterSpec,
    PixelSpec,
    PrologueSpec,
    RowResultSpec,
    StateSpec,
    sibling_path,
)  # fmt: skip

SHA = "0123456789abcdef" * 4


def make(**changed: Any) -> Manifest:
    values: dict[str, Any] = dict(  # noqa: C408 - reads like the call
        kind="prior", model=ModelSpec("vq-prior", {"channels": 8, "ratio": 0.5, "list": [None, True, "é"]}),
        pixel=PixelSpec("codes", 7), shape=(4, 5),
        conditions=(
            ConditionSpec("label", "class", (), "int64", 10), ConditionSpec("top", "codes", (2, 2), "int64", 7),
            ConditionSpec("v", "vector", (3,), "float32"), ConditionSpec("m", "map", (1, 2, 3), "float32"),
        ),
        prologue=(PrologueSpec("prologue.0", (8, 8, 1), "float32"),),
        states=(
            StateSpec("state.canvas.0", (1, 2, 3), "float32", 0.0, "canvas", "step"),
            StateSpec("state.pixels", (1, 9, 1), "int64", 7, "pixels", "step"),
        ),
        row_result=RowResultSpec(3), distribution=DistributionSpec("categorical"), noise=NoiseSpec(1, 7),
        schedule="raster", target="generic", precision="float32", files={part: FileSpec(SHA, 5) for part in PARTS},
        checkpoint=CheckpointSpec(SHA), parameters=ParameterSpec(9, 1, 2, 3), versions={"torch": "2", "onnx": "1"},
        verification={"replay": {"max": 1e-6}}, notes=("one", "two"),
    )  # fmt: skip
    return Manifest(**{**values, **changed})


def edited(path: str, value: Any = None, *, drop: bool = False) -> str:
    """The manifest's JSON with the entry at a dotted path set, or dropped."""
    document: Any = json.loads(make().to_json())
    held, keys = document, path.split(".")
    for key in keys[:-1]:
        held = held[int(key) if key.isdigit() else key]
    if drop:
        del held[keys[-1]]
    else:
        held[int(keys[-1]) if keys[-1].isdigit() else keys[-1]] = value
    return json.dumps(document)


def test_round_trips_are_exact() -> None:
    manifest = make()
    text = manifest.to_json()
    again = Manifest.from_json(text)
    assert again == manifest and again.to_json() == text
    assert again.states[1].initial == 7 and isinstance(again.states[1].initial, int)
    assert (again.height, again.width, again.levels) == (4, 5, 7)


def test_pixels_in_channels_round_trip() -> None:
    changed = {
        "pixel": PixelSpec("channels", channels=3),
        "distribution": DistributionSpec("logistic-mixture", 10, False),
    }
    manifest = make(**changed, noise=NoiseSpec(1, 13))
    document = json.loads(manifest.to_json())
    assert document["pixel"] == {"kind": "channels", "channels": 3}
    assert document["distribution"] == {"kind": "logistic-mixture", "n_mix": 10, "round": False}
    assert Manifest.from_json(manifest.to_json()) == manifest
    with pytest.raises(ManifestError, match="pixels are channels, which have no levels"):
        _ = manifest.levels
    with pytest.raises(ManifestError, match=r"noise.width is 12, expected n_mix \+ channels, 13"):
        make(**changed, noise=NoiseSpec(1, 12))


def test_the_json_has_the_keys_of_the_contract() -> None:
    document = json.loads(make().to_json())
    contract = Path(__file__).resolve().parents[2] / "docs" / "graph-contract.md"
    text = contract.read_text(encoding="utf-8")
    assert [key for key in document if f'"{key}"' not in text] == []
    assert list(document)[0] == "format_version"
    assert "levels" not in document["conditions"][2]


def test_objects_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().kind = "decoder"  # type: ignore[misc]


@pytest.mark.parametrize(
    "path, value, message",
    [
        ("format_version", 2, "format version 2, but this runtime reads version 1; install"),
        ("format_version", True, "format version True"),
        ("format_version", "1", "format version '1'"),
        ("surprise", 1, "unknown key 'surprise', expected only kind"),
        ("states.0.axis", 2, r"manifest.states\[0\] has the unknown key 'axis'"),
        ("files.decoder", {"sha256": SHA, "bytes": 1}, "files is 'decoder', but this version knows only 'row'"),
        ("files.row.sha256", "abc", "sha256 is 'abc', expected 64"),
        ("files.row.bytes", 0, "bytes is 0"),
        ("kind", "decoder", "kind is 'decoder', but this version knows only 'prior'"),
        ("schedule", "wavefront", "schedule is 'wavefront'"),
        ("target", "cuda", "target is 'cuda'"),
        ("precision", "int4", "precision is 'int4'"),
        ("distribution.kind", "logistics", "distribution.kind is 'logistics'"),
        ("noise.version", 2, "noise.version is 2"),
        ("noise.width", 6, "noise.width is 6, expected levels, 7"),
        ("pixel.kind", "text", "pixel.kind is 'text'"),
        ("pixel.kind", "channels", "pixel of kind 'channels' (needs 'channels'|cannot have 'levels')"),
        ("pixel", {"kind": "channels", "channels": 2}, "pixel.channels is 2"),
        ("pixel", {"kind": "channels", "channels": 3}, "distribution.kind of channels is 'categorical'"),
        ("distribution.n_mix", 3, "distribution of kind 'categorical' cannot have 'n_mix'"),
        ("distribution.round", True, "distribution of kind 'categorical' cannot have 'round'"),
        ("distribution", {"kind": "logistic-mixture", "n_mix": 0, "round": True}, "distribution.n_mix is 0"),
        ("distribution", {"kind": "logistic-mixture", "n_mix": 2, "round": 1}, "round is the number 1, expected true"),
        ("distribution", {"kind": "logistic-mixture", "round": True}, "needs 'n_mix'"),
        ("pixel.levels", 7.0, "manifest.pixel.levels is the number 7.0, expected an integer"),
        ("pixel.levels", True, "manifest.pixel.levels is a boolean, expected an integer"),
        ("shape", [4], "manifest.shape has 1 entries, expected 2"),
        ("shape", "4x5", "manifest.shape is the string '4x5', expected a list"),
        ("shape.0", 0, r"shape is \[0, 5\], expected positive sizes"),
        ("model", [], "manifest.model is a list, expected an object"),
        ("model.config", None, "manifest.model.config is null, expected an object"),
        ("conditions.0.kind", "text", "condition 'label': kind is 'text'"),
        ("conditions.0.shape", [1], r"condition 'label': shape is \[1\]"),
        ("conditions.0.dtype", "int32", "dtype of kind 'class' is 'int32'"),
        ("conditions.2.levels", 4, "kind 'vector' cannot have 'levels'"),
        ("conditions.1.name", "label", "conditions names one entry twice"),
        ("states.0.role", "cache", "state.canvas.0: role is 'cache'"),
        ("states.0.writer", "score", "state.canvas.0: writer is 'score'"),
        ("states.0.name", "canvas", "A tensor is named 'canvas', expected a name like state"),
        ("states.1.initial", 0.5, "initial 0.5 is no finite int64"),
        ("versions.torch", 2, "manifest.versions.torch is the number 2, expected a string"),
        ("states.0.initial", 1e39, "initial 1e[+]39 is no finite float32"),
        ("states.1.initial", 1e39, "initial 1e[+]39 is no finite int64"),
        ("states.1.initial", -(2**60), "is no finite int64"),
        ("states.0.shape", [1 << 20, 1 << 20, 1 << 20], "expected 8 sizes and 17179869184 numbers at most"),
        ("prologue.0.shape", [1] * 9, "expected 8 sizes"),
        ("shape", [2**31, 2**31], "expected 8 sizes and"),
        ("pixel.levels", 2**20 + 1, "pixel.levels is 1048577, expected an integer of at most 1048576"),
        ("conditions.0.levels", 2**40, "levels is 1099511627776, expected an integer of at most"),
        ("conditions.0.levels", 2**63, "an integer is beyond 64 bits"),
        ("conditions.0.levels", 10**400, "an integer has 401 digits"),
        ("row_result.width", 2**31, "row_result.width is 2147483648, expected an integer of at most 2147483647"),
        ("parameters.total", -1, "parameters.total is -1, expected an integer of at least 0"),
        ("files.row.bytes", 2**62 + 1, "files: bytes is"),
        ("versions.torch", "a\ud800", "half a character"),
        ("notes.0", "\x1b[2J", "holds a control character"),
        ("model.config.\0", 1, "holds a control character"),
        ("model.config.x", [[[[{"y": float("inf")}]]]], "Infinity is not a JSON number"),
        ("kind", "x" * 1_000_000, "^.{0,300}$"),
        ("x" * 1_000_000, 1, "^.{0,700}$"),
        ("files." + "x" * 1_000_000, 1, "^.{0,300}$"),
        ("conditions.0.name", "x" * 1_000_000, "^.{0,300}$"),
        ("conditions.0.name", "no name", "A condition is named 'no name', expected an identifier"),
        ("states.0.name", "state. x", "A tensor is named 'state. x'"),
        ("conditions", [], "prologue tensors but no conditions"),
        ("notes", ["a", 1], r"manifest.notes\[1\] is the number 1"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        Manifest.from_json(edited(path, value))


@pytest.mark.parametrize("key", [key for key in json.loads(make().to_json()) if key != "format_version"])
def test_every_key_is_needed(key: str) -> None:
    with pytest.raises(ManifestError, match=f"manifest lacks the key '{key}'; export the checkpoint again"):
        Manifest.from_json(edited(key, drop=True))


@pytest.mark.parametrize("key", ["format_version", "files.row", "files.prologue", "conditions.0.levels"])
def test_needed_entries_are_needed(key: str) -> None:
    with pytest.raises(ManifestError):
        Manifest.from_json(edited(key, drop=True))


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "not valid JSON"),
        ("[1]", "is a list, expected a JSON object"),
        ('{"format_version": NaN}', "NaN is not a JSON number"),
        ('{"format_version": 1, "format_version": 1}', "'format_version' occurs twice"),
        ("[" * 100_000, "not valid JSON"),
        ('{"a": ' + "[" * 70 + "]" * 70 + "}", "nested more than 64 deep"),
        ('{"a": ' + "9" * 5000 + "}", "an integer has 5000 digits"),
        ('{"a": 1e999}', "1e999 is beyond a number of 64 bits"),
        ('{"a": "' + "x" * (1 << 22) + '"}', "characters, more than 4194304"),
        ("{" + ", ".join(f'"{k}": 0' for k in range(99_999)) + ', "7": 1}', "'7' occurs twice"),
    ],
)
def test_what_is_no_json_object_is_refused(text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        Manifest.from_json(text)


def test_what_json_cannot_hold_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(2000):
        deep = [deep]
    for config in ({"x": float("nan")}, {"x": object()}, {"x": "\ud800"}, {"x": 2**64}, {"x": deep}):
        with pytest.raises(ManifestError, match="cannot be written as JSON"):
            make(model=ModelSpec("toy", config)).to_json()


def test_siblings_lie_beside_the_step() -> None:
    assert sibling_path("a/b.onnx", "row") == Path("a/b.row.onnx")
    assert sibling_path("b.v2.onnx", "score") == Path("b.v2.score.onnx")
    with pytest.raises(ManifestError, match="knows only 'row'"):
        sibling_path("b.onnx", "step")
