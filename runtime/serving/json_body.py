"""JSON of requests, read strictly."""

from __future__ import annotations

from typing import Any

from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.serving.problem import Problem
from pixelsnail_infer.strictjson import read_json

__all__ = ["read_object"]

_MOST = 1 << 18  # lists and objects: each takes two bytes of a body, and up to 64 in memory


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body. Raises `Problem` "malformed", or "too-large" for very many lists and objects."""
    if body.count(b"[") + body.count(b"{") > _MOST:
        what = f"The JSON holds more than {_MOST:,} lists and objects, which is the limit"
        raise Problem("too-large", f"{what}; send large arrays as npy, or as binary tensors.")
    try:
        document = read_json(body.decode())
    except ValueError as error:  # no UTF-8 among them
        raise Problem("malformed", f"The body is not valid JSON ({error}).") from error
    if not isinstance(document, dict):
        raise Problem("malformed", f"The body is {shown(document)}, expected a JSON object.")
    return document
