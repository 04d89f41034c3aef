"""The interface described as OpenAPI 3.1: the same for every model, so that it says nothing about a locked service."""

from __future__ import annotations

from typing import Any

from pixelsnail_infer import __version__
from pixelsnail_infer.runtime.serving.problem import KINDS, MEDIA_TYPE
from pixelsnail_infer.runtime.serving.settings import Settings

__all__ = ["openapi"]

_ARRAY = {"$ref": "#/components/schemas/Array"}
_PROBLEM = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
_JSON_OBJECT = {"content": {"application/json": {"schema": {"type": "object"}}}}


def openapi(settings: Settings) -> dict[str, Any]:
    """The document of `GET /openapi.json`."""
    about = "Images from exported PixelSNAIL-like models: the same seed gives the same image, whatever else runs."
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "pixelsnail-infer", "version": __version__, "description": about},
        "paths": _paths(),
        "components": {"schemas": {"Request": _request(settings), "Array": _array(), "Problem": _problem()}},
    }
    if settings.keys:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"key": []}]
    return found


def _paths() -> dict[str, Any]:
    name = [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}]
    return {
        "/v1/images": {"post": _images()},
        "/v1/models": {"get": _get("The models: shapes, conditions, limits")},
        "/v1/stats": {"get": _get("What the engines do now and did so far")},
        "/metrics": {"get": _get("Figures for Prometheus", "text/plain")},
        "/healthz": {"get": _get("200 when requests are taken, else 503", health=True)},
        "/v2": {"get": _get("Open Inference Protocol: the server")},
        "/v2/health/live": {"get": _get("Open Inference Protocol: the process answers")},
        "/v2/health/ready": {"get": _get("Open Inference Protocol: requests are taken", health=True)},
        "/v2/models/{model}": {"parameters": name, "get": _get("Open Inference Protocol: inputs and outputs")},
        "/v2/models/{model}/ready": {
            "parameters": name, "get": _get("Open Inference Protocol: the model is ready", health=True)},
        "/v2/models/{model}/infer": {"parameters": name, "post": _infer()},
    }  # fmt: skip


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
        "responses": {"200": {"description": "The images", "content": forms}, **_problems()},
    }  # fmt: skip


def _infer() -> dict[str, Any]:
    bodies = {"application/json": {"schema": {"type": "object"}}, "application/octet-stream": {}}
    return {
        "summary": "Open Inference Protocol: draw images",
        "description": "Inputs are the conditions, and optionally seed, temperature, top_k, top_p, known and "
        "known_mask, each with an axis of images. Tensors are JSON, or bytes (binary_tensor_data).",
        "requestBody": {"required": True, "content": bodies},
        "responses": {"200": {"description": "The output `pixels`", "content": bodies}, **_problems()},
    }


def _get(summary: str, media: str = "application/json", health: bool = False) -> dict[str, Any]:
    content = {media: {"schema": {"type": "object" if media == "application/json" else "string"}}}
    codes = ("503",) if health else ()
    answers = {code: {"description": KINDS["unavailable"].title, **_PROBLEM} for code in codes}
    return {"summary": summary, "responses": {"200": {"description": "OK", "content": content}, **answers}}


def _problems() -> dict[str, Any]:
    return {str(kind.status): {"description": kind.title, **_PROBLEM} for kind in KINDS.values()}


def _request(settings: Settings) -> dict[str, Any]:
    def told(says: str, **schema: Any) -> dict[str, Any]:
        return {**schema, "description": says}

    seed = {"type": "integer", "minimum": 0, "maximum": (1 << 64) - 1}
    each = "one value, or a list of one for each image (of a pipeline: for each prior)"
    fields = {
        "model": told("a name of GET /v1/models; may be left out where there is one", type="string"),
        "n": told("images", type="integer", minimum=1, maximum=settings.most_images, default=1),
        "seed": told("one integer, or a list of one for each image",
                     anyOf=[seed, {"type": "array", "items": seed}], default=0),
        "label": told("the class: one number, or a list of one for each image", anyOf=[{"type": "integer"}, _ARRAY]),
        "conditions": told("all conditions by name", type="object", additionalProperties=_ARRAY),
        "temperature": told(f"0 takes the most probable; {each}", anyOf=[{"type": "number", "minimum": 0}, _ARRAY],
                            default=1),
        "top_k": told(f"draw from the k most probable codes only; {each}", anyOf=[{"type": "integer"}, _ARRAY]),
        "top_p": told(f"draw from the most probable codes that hold this mass; {each}",
                      anyOf=[{"type": "number"}, _ARRAY]),
        "known": told("pixels to complete, [H, W] or [n, H, W], with C last for images", **_ARRAY),
        "known_mask": told("true where known counts, [H, W] or [n, H, W]", **_ARRAY),
        "deadline": told("seconds after which an unfinished request fails", type="number", exclusiveMinimum=0),
        "format": told("the answer's form, instead of the header Accept", enum=["png", "npy", "json"]),
        "columns": told("of a grid", type="integer", minimum=1),
        "scale": told("pixels of a picture are enlarged so many times", type="integer", minimum=1),
        "stream": told("answer with server-sent events", type="boolean", default=False),
    }  # fmt: skip
    return {"type": "object", "properties": fields, "additionalProperties": False}


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
