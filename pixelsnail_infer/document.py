"""Manifests as JSON text: written whole, and read strictly, in the version that this package knows only."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pixelsnail_infer.checks import EXPORT_AGAIN
from pixelsnail_infer.errors import ManifestError
from pixelsnail_infer.messages import shown
from pixelsnail_infer.strictjson import decode, encode, expect_plain, parse_object

__all__ = ["kind_of", "read_document", "write_document"]

T = TypeVar("T")


def write_document(manifest: Any, version: int) -> str:
    """The JSON text of a manifest (a dataclass), its format version first. Raises `ManifestError`."""
    try:
        ordered = {"format_version": version, **encode(manifest)}
        expect_plain(ordered)
        return json.dumps(ordered, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        advice = "model.config and verification may hold only finite numbers, strings, bools, null, lists, dicts"
        raise ManifestError(f"The manifest cannot be written as JSON ({error}); {advice}.") from error


def read_document(cls: type[T], text: str, version: int) -> T:
    """Make a `cls` of JSON text: an unknown version or key, a missing key or a wrong type is a `ManifestError`."""
    document = parse_object(text, "manifest", ManifestError)
    found = document.get("format_version")
    if found != version or isinstance(found, bool):
        raise ManifestError(
            f"The manifest has format version {shown(found)}, but this runtime reads version {version}; "
            f"install the pixelsnail-infer that wrote the file, or {EXPORT_AGAIN}."
        )
    return decode(cls, document, "manifest", ManifestError, EXPORT_AGAIN)


def kind_of(text: str) -> str | None:
    """What kind of model a manifest's text says it is of: "prior", "decoder", "encoder", or what else it names; None
    where it names nothing. Raises `ManifestError` when the text is no JSON object."""
    kind = parse_object(text, "manifest", ManifestError).get("kind")
    return kind if isinstance(kind, str) else None
