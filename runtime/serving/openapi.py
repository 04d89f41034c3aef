"""The interface described as OpenAPI 3.1: the same for every model, so that it says nothing about a locked service."""

from __future__ import annotations

from typing import Any

from pixelsnail_infer import __version__
from pixelsnail_infer.runtime.serving.access import OPEN
from pixelsnail_infer.runtime.serving.fields import field_schemas
from pixelsnail_infer.runtime.serving.inference import VERSION
from pixelsnail_infer.runtime.serving.problem import KINDS, MEDIA_TYPE
from pixelsnail_infer.runtime.serving.settings import Settings

__all__ = ["openapi"]

_PROBLEM = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def openapi(settings: Settings) -> dict[str, Any]:
    """The document of `GET /openapi.json`."""
    about = "Images from exported PixelSNAIL-like models: the same seed gives the same image, whatever else runs."
    schemas = {"Request": _request(settings), "Array": _array(), "Problem": _problem()}
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "pixelsnail-infer", "version": __version__, "description": about},
        "paths": {path: _secured(path, told, settings) for path, told in _paths().items()},
        "components": {"schemas": schemas},
    }
    if settings.keys:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"key": []}]
    return found


def _paths() -> dict[str, Any]:
    ready = _get("Open Inference Protocol: the model is ready", 404, 503)
    told: dict[str, dict[str, Any]] = {
        "/v1/images": {"post": _images()},
        "/v1/models": {"get": _get("The models: shapes, conditions, limits")},
        "/v1/stats": {"get": _get("What the engines do now and did so far")},
        "/metrics": {"get": _get("Figures for Prometheus", media="text/plain")},
        "/healthz": {"get": _get("200 when requests are taken, else 503", 503)},
        "/v2": {"get": _get("Open Inference Protocol: the server")},
        "/v2/health/live": {"get": _get("Open Inference Protocol: the process answers")},
        "/v2/health/ready": {"get": _get("Open Inference Protocol: requests are taken", 503)},
    }
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        named: dict[str, Any] = {"parameters": [_part(name) for name in ("model", "version") if f"{{{name}}}" in path]}
        told[path] = {**named, "get": _get("Open Inference Protocol: inputs and outputs", 404, 503)}
        told[f"{path}/ready"] = {**named, "get": ready}
        told[f"{path}/infer"] = {**named, "post": _infer()}
    return told


def _part(name: str) -> dict[str, Any]:
    """A part of a path. A model has one version."""
    schema = {"type": "string", **({"enum": [VERSION]} if name == "version" else {})}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _secured(path: str, told: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The operations of a path with what `check_access` adds: every one can be refused, and some need no key."""
    open_ = path in OPEN
    codes = (403,) if open_ or not settings.keys else (401, 403)
    free: dict[str, Any] = {"security": []} if open_ and settings.keys else {}
    found = dict(told)
    for method in ("get", "post"):
        if method in told:
            answers = {**told[method]["responses"], **_problems(*codes)}
            found[method] = {**told[method], **free, "responses": dict(sorted(answers.items()))}
    return found


def _images() -> dict[str, Any]:
    forms = {
        "image/png": {"schema": {"type": "string", "contentMediaType": "image/png"}},
        "application/x-npy": {"schema": {"type": "string", "contentMediaType": "application/x-npy"}},
        "application/json": {"schema": {"type": "object"}},
        "text/event-stream": {"schema": {"type": "string"}},
    }
    return {
        "summary": "Draw images",
        "description": "The header Accept, or the field format, chooses the form of the answer. A stream has the "
        "events start, row (one for each row as it is drawn), image (of pipelines: a PNG for each), and end or error.",
        "requestBody": {"required": True,
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Request"}}}},
        "responses": {"200": {"description": "The images", "content": forms},
                      **_problems(400, 404, 406, 408, 413, 415, 422, 429, 500, 503, 504)},
    }  # fmt: skip


def _infer() -> dict[str, Any]:
    bodies = {"application/json": {"schema": {"type": "object"}}, "application/octet-stream": {}}
    return {
        "summary": "Open Inference Protocol: draw images",
        "description": "Inputs are the conditions, and optionally seed, temperature, top_k, top_p, known and "
        "known_mask, each with an axis of images. Tensors are JSON, or bytes (binary_tensor_data).",
        "requestBody": {"required": True, "content": bodies},
        "responses": {"200": {"description": "The output `pixels`", "content": bodies},
                      **_problems(400, 404, 408, 413, 415, 422, 429, 500, 503)},
    }  # fmt: skip


def _get(summary: str, *codes: int, media: str = "application/json") -> dict[str, Any]:
    content = {media: {"schema": {"type": "object" if media == "application/json" else "string"}}}
    return {"summary": summary, "responses": {"200": {"description": "OK", "content": content}, **_problems(*codes)}}


def _problems(*codes: int) -> dict[str, Any]:
    titles = {kind.status: kind.title for kind in KINDS.values()}
    return {str(code): {"description": titles[code], **_PROBLEM} for code in codes}


def _request(settings: Settings) -> dict[str, Any]:
    """Every field may be null, which is as if it were left out."""
    told: dict[str, Any] = {}
    for name, schema in field_schemas(settings.most_images).items():
        about = {key: schema[key] for key in ("description", "default") if key in schema}
        values = {key: value for key, value in schema.items() if key not in about}
        told[name] = {"anyOf": [*values.get("anyOf", [values]), {"type": "null"}], **about}
    return {"type": "object", "properties": told, "additionalProperties": False}


def _array() -> dict[str, Any]:
    coded = {"type": "object", "required": ["npy"], "additionalProperties": False,
             "properties": {"npy": {"type": "string", "contentEncoding": "base64"}}}  # fmt: skip
    return {"description": "Numbers as nested lists, or the bytes of a .npy file in base64",
            "anyOf": [{"type": "number"}, {"type": "array"}, coded]}  # fmt: skip


def _problem() -> dict[str, Any]:
    text = {"type": "string"}
    fields = {"type": text, "title": text, "status": {"type": "integer"}, "detail": text, "field": text,
              "request_id": text, "error": text}  # fmt: skip
    return {"type": "object", "properties": fields, "required": ["type", "title", "status", "detail", "request_id"],
            "description": "RFC 9457"}  # fmt: skip
