"""The fields of `POST /v1/images`: one table of what each takes and means, for the checks and for the description."""

from __future__ import annotations

from functools import cache
from typing import Any

__all__ = ["ARRAY", "SEED", "field_schemas"]

ARRAY = {"$ref": "#/components/schemas/Array"}
SEED: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": (1 << 64) - 1}
_EACH = "one value, or a list of one for each image (of a pipeline: for each prior)"


@cache
def field_schemas(most_images: int) -> dict[str, dict[str, Any]]:
    """The JSON Schema of every field, by name, of a service that draws at most so many images for a request. Bounds of
    `temperature`, `top_k` and `top_p` are those that the engine checks."""
    fields: dict[str, tuple[str, dict[str, Any]]] = {
        "model": ("a name of GET /v1/models; may be left out where there is one", {"type": "string"}),
        "n": ("images", {"type": "integer", "minimum": 1, "maximum": most_images, "default": 1}),
        "seed": ("one integer, or a list of one for each image",
                 {"anyOf": [SEED, {"type": "array", "items": SEED}], "default": 0}),
        "label": ("the class: one number, or a list of one for each image",
                  {"anyOf": [{"type": "integer", "minimum": 0}, ARRAY]}),
        "conditions": ("all conditions by name", {"type": "object", "additionalProperties": ARRAY}),
        "temperature": (f"0 takes the most probable; {_EACH}",
                        {"anyOf": [{"type": "number", "minimum": 0}, ARRAY], "default": 1}),
        "top_k": (f"draw from the k most probable codes only; {_EACH}",
                  {"anyOf": [{"type": "integer", "minimum": 1}, ARRAY]}),
        "top_p": (f"draw from the most probable codes that hold this mass; {_EACH}",
                  {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": 1}, ARRAY]}),
        "known": ("pixels to complete, [H, W] or [n, H, W], with C last for images", ARRAY),
        "known_mask": ("true where known counts, [H, W] or [n, H, W]", ARRAY),
        "deadline": ("seconds after which an unfinished request fails",
                     {"type": "number", "exclusiveMinimum": 0, "maximum": 86400}),
        "format": ("the answer's form, instead of the header Accept", {"enum": ["png", "npy", "json"]}),
        "columns": ("of a grid", {"type": "integer", "minimum": 1, "maximum": 100}),
        "scale": ("pixels of a picture are enlarged so many times", {"type": "integer", "minimum": 1, "maximum": 64}),
        "stream": ("whether to answer with server-sent events, instead of the header Accept", {"type": "boolean"}),
    }  # fmt: skip
    return {name: {**schema, "description": says} for name, (says, schema) in fields.items()}
