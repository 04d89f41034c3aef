"""Who may ask: the API key, the name that the service is addressed by, and pages of other sites."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.plainfile import open_plain
from pixelsnail_infer.runtime.serving.problem import Problem
from pixelsnail_infer.runtime.serving.settings import Settings

__all__ = ["OPEN", "check_access", "read_keys"]

OPEN = ("/", "/page.js", "/page.css", "/docs", "/openapi.json", "/healthz", "/v2/health/live", "/v2/health/ready")
"""Paths that need no key: they say nothing about models or requests."""

_SHORTEST, _MOST_BYTES = 16, 1 << 16


def read_keys(path: str | Path) -> tuple[bytes, ...]:
    """The SHA-256 digests of the keys in a file, one a line. Raises `RequestError`."""
    try:
        with open_plain(path) as file:
            text = file.read(_MOST_BYTES + 1).decode("ascii")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text of ASCII characters"
        raise RequestError(f"The file of API keys, {one_line(path)}, cannot be read ({reason}).") from error
    if len(text) > _MOST_BYTES:
        what = f"has more than {_MOST_BYTES} bytes, which is the limit"
        raise RequestError(f"The file of API keys, {one_line(path)}, {what}; leave out old keys.")
    keys = [line.strip() for line in text.splitlines() if line.strip()]
    if not keys or any(len(key) < _SHORTEST or not key.isprintable() or " " in key for key in keys):
        what = f"one key a line, each of at least {_SHORTEST} characters without spaces"
        raise RequestError(f"The file of API keys, {one_line(path)}, should hold {what}.")
    return tuple(hashlib.sha256(key.encode()).digest() for key in keys)


def check_access(settings: Settings, path: str, headers: Mapping[str, str]) -> None:
    """Raise `Problem` for a request that may not be answered."""
    host = headers.get("host", "")
    if settings.hosts and _name(host) not in settings.hosts:
        raise Problem("forbidden", "The Host header names another machine; see the option --allow-host.")
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        raise Problem("forbidden", "The request comes from a page of another site.")
    if settings.keys and path not in OPEN and not _known(headers.get("authorization", ""), settings.keys):
        raise Problem("unauthorized", "This service needs an API key, and got none that it knows.")


def _known(header: str, keys: tuple[bytes, ...]) -> bool:
    """Whether the header brings one of the keys; the time taken tells neither which nor how much of it is right."""
    scheme, _, key = header.partition(" ")
    digest = hashlib.sha256(key.strip().encode("latin-1", "replace")).digest()
    found = [hmac.compare_digest(digest, known) for known in keys]
    return any(found) and scheme.lower() == "bearer"


def _name(host: str) -> str:
    """The name in a Host header, without port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
