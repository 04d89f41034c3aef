"""What every request passes: an id, the checks of access, one form of errors, one line of the log."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pixelsnail_infer.messages import one_line
from pixelsnail_infer.runtime.serving.access import check_access
from pixelsnail_infer.runtime.serving.outcome import ClientGone
from pixelsnail_infer.runtime.serving.problem import Problem, problem_of
from pixelsnail_infer.runtime.serving.service import Service

__all__ = ["Gate"]

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_GONE = 499  # no status of HTTP: for the log and the metrics alone
_STATUSES = {400: "malformed", 404: "not-found", 405: "wrong-method"}
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy",
     b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
     b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
]  # fmt: skip
_log = logging.getLogger("pixelsnail_infer.serving")


class Gate:
    """The outermost application. Handlers below find `request_id` and `note` in the request's state; what they put into
    `note` stands in the line of the log."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        asked = headers.get("x-request-id", "")
        request_id = asked if _ID.fullmatch(asked) else uuid.uuid4().hex
        note: dict[str, Any] = {}
        scope["app"] = self  # without one, Starlette answers unknown paths itself, in plain text
        scope.setdefault("state", {}).update(request_id=request_id, note=note)
        began, status = time.perf_counter(), 0

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode()), *_HEADERS]
            await send(message)

        try:
            check_access(self._service.settings, scope["path"], headers)
            await self._app(scope, receive, tell)
        except (ClientGone, ClientDisconnect):
            status = _GONE
        except Exception as error:
            problem, allow = _problem(error)
            if problem.status == 500:
                _log.error("request failed", exc_info=error, extra={"told": {"request_id": request_id}})
            note["problem"] = problem.detail
            if status:  # the answer has begun: all that is left is to break it off
                raise
            await _send_problem(problem, request_id, allow, tell)
        finally:
            self._count(scope, status, time.perf_counter() - began, request_id, note)

    def _count(self, scope: Scope, status: int, seconds: float, request_id: str, note: dict[str, Any]) -> None:
        route = scope.get("route")
        path = getattr(route, "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._service.metrics.answered(path, method, status)
        client = scope.get("client")
        told = {"request_id": request_id, "method": method, "route": path, "path": one_line(scope["path"], 200),
                "status": status, "seconds": round(seconds, 6), "client": client[0] if client else "", **note}
        _log.info("request", extra={"told": told})


def _problem(error: Exception) -> tuple[Problem, str | None]:
    if not isinstance(error, HTTPException):
        return problem_of(error), None
    return Problem(_STATUSES.get(error.status_code, "malformed"), error.detail), (error.headers or {}).get("Allow")


async def _send_problem(problem: Problem, request_id: str, allow: str | None, send: Send) -> None:
    body = json.dumps(problem.document(request_id)).encode()
    found = {**problem.headers, "content-length": str(len(body))} | ({"allow": allow} if allow else {})
    headers = [(name.encode(), value.encode("latin-1")) for name, value in found.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
