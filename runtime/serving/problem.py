"""Errors as clients see them: problem documents of RFC 9457."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from pixelsnail_infer.errors import (
    DeadlineExpired,
    EngineClosed,
    PixelsnailError,
    QueueFull,
    RequestCancelled,
    RequestError,
)
from pixelsnail_infer.messages import one_line

__all__ = ["KINDS", "MEDIA_TYPE", "Kind", "Problem", "problem_of"]

MEDIA_TYPE = "application/problem+json"
_LONGEST_WAIT = 3600


class Kind(NamedTuple):
    """A kind of problem: its status, its title, and what a client does about it."""

    status: int
    title: str
    advice: str


KINDS = {
    "malformed": Kind(400, "Malformed request", "The request cannot be read; correct it."),
    "unauthorized": Kind(401, "API key needed", "Send the header `Authorization: Bearer KEY`."),
    "forbidden": Kind(403, "Not from here", "A page of another site, or a wrong Host header; ask the service itself."),
    "not-found": Kind(404, "Not found", "There is no such path or model; see `GET /v1/models`."),
    "wrong-method": Kind(405, "Method not allowed", "The header `Allow` names the methods."),
    "not-acceptable": Kind(406, "Not acceptable", "Ask for image/png, application/x-npy, application/json or "
                           "text/event-stream."),
    "slow": Kind(408, "Body too slow", "The body did not arrive in time; send it again."),
    "too-large": Kind(413, "Body too large", "Send less at a time; the limit is in the detail."),
    "unsupported": Kind(415, "Unsupported media type", "Send application/json, not compressed."),
    "invalid": Kind(422, "Invalid value", "Correct the field that `field` names."),
    "busy": Kind(429, "Too many requests", "Try again after the seconds of the header `Retry-After`."),
    "failed": Kind(500, "Failed", "The service failed; its log has the request's id."),
    "unavailable": Kind(503, "Not available", "The service starts or ends; try again later, or elsewhere."),
    "expired": Kind(504, "Deadline expired", "The request was not finished within its deadline."),
}  # fmt: skip


class Problem(Exception):
    """What a handler raises to answer with an error. `field` names the part of the request that is wrong. `unread` says
    that the rest of the body may be on its way, for which nobody waits: the connection ends with the answer."""

    def __init__(self, kind: str, detail: str, *, field: str | None = None, wait: float | None = None,
                 unread: bool = False) -> None:  # fmt: skip
        super().__init__(detail)
        self.kind, self.detail, self.field, self.unread = kind, one_line(detail), field, unread
        self._wait = wait

    @property
    def status(self) -> int:
        """The HTTP status."""
        return KINDS[self.kind].status

    @property
    def headers(self) -> dict[str, str]:
        """Headers that belong to the answer: when to try again, how to log in, whether the connection ends."""
        headers = {"content-type": MEDIA_TYPE, "cache-control": "no-store"}
        if self.status in (429, 503):
            headers["retry-after"] = str(min(max(math.ceil(self._wait or 1), 1), _LONGEST_WAIT))
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        if self.unread:
            headers["connection"] = "close"
        return headers

    def document(self, request_id: str) -> dict[str, Any]:
        """The JSON object. `error` repeats the detail under the name that the Open Inference Protocol gives it."""
        kind = KINDS[self.kind]
        found = {"type": f"/docs#{self.kind}", "title": kind.title, "status": kind.status, "detail": self.detail}
        named = {} if self.field is None else {"field": self.field}
        return {**found, **named, "request_id": request_id, "error": self.detail}


def problem_of(error: Exception, fields: tuple[str, ...] = ()) -> Problem:
    """The problem that an error of this package is; messages about an argument begin with its name, which is then the
    problem's field if it is one of `fields`."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, QueueFull):
        return Problem("busy", str(error), wait=error.wait)
    if isinstance(error, (EngineClosed, RequestCancelled)):
        return Problem("unavailable", "The service ends; the request was given up.")
    if isinstance(error, DeadlineExpired):
        return Problem("expired", str(error))
    if isinstance(error, RequestError):
        first = str(error).replace("[", " ").split(" ", 1)[0]
        return Problem("invalid", str(error), field=first if first in fields else None)
    if isinstance(error, PixelsnailError):
        return Problem("failed", str(error))
    return Problem("failed", "The service failed in a way that nobody foresaw; its log says more.")
