"""What every request passes: an id, the checks of access, one form of errors, one line of the log."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from typing import Any

import anyio
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from pixelsnail_infer.messages import one_line
from pixelsnail_infer.runtime.serving.access import check_access
from pixelsnail_infer.runtime.serving.outcome import ClientGone
from pixelsnail_infer.runtime.serving.problem import Problem, problem_of
from pixelsnail_infer.runtime.serving.sending import RawHeaders, Sender
from pixelsnail_infer.runtime.serving.service import Service

__all__ = ["Gate"]

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_GONE = 499  # no status of HTTP: for the log and the metrics alone
_LINGER = 1.0  # seconds
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
    `note` stands in the line of the log. A server may put `abort` there: see `Sender`."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope).get("x-request-id", "")
        request_id = asked if _ID.fullmatch(asked) else uuid.uuid4().hex
        note: dict[str, Any] = {}
        scope["app"] = self  # without one, Starlette answers unknown paths itself, in plain text
        state = scope.setdefault("state", {})
        state.update(request_id=request_id, note=note)
        sender = Sender(send, receive, state.get("abort"), self._service, _own_headers(request_id))
        began, gave_up = time.perf_counter(), False
        try:
            with self._service.working():
                await self._answer(scope, receive, sender)
        except (ClientGone, ClientDisconnect) as error:
            gave_up = True
            note |= {"problem": str(error)} if str(error) else {}
        except asyncio.CancelledError:
            gave_up, note["problem"] = True, "The server gave up before the client had the answer."
            raise
        finally:
            status = _GONE if gave_up else sender.status
            self._count(scope, status, time.perf_counter() - began, request_id, note)

    def unreadable(self, client: str) -> tuple[RawHeaders, bytes]:
        """Headers and body of the answer to something that is no HTTP, which is counted as a request."""
        problem, request_id = Problem("malformed", "This is no HTTP request.", unread=True), uuid.uuid4().hex
        headers, body = _encoded(problem, request_id, None)
        scope = {"method": "", "path": "", "client": (client, 0)}
        self._count(scope, problem.status, 0.0, request_id, {"problem": problem.detail})
        return [*headers, *_own_headers(request_id)], body

    async def _answer(self, scope: Scope, receive: Receive, sender: Sender) -> None:
        """The answer of a route, or a problem."""
        try:
            check_access(self._service.settings, scope["path"], Headers(scope=scope))
            await self._app(scope, receive, sender)
        except (ClientGone, ClientDisconnect):
            raise
        except Exception as error:
            begun = sender.status > 0
            await _refuse(error, scope["state"], receive, sender)
            if begun:  # all that is left is to break the answer off
                raise

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


async def _refuse(error: Exception, state: dict[str, Any], receive: Receive, sender: Sender) -> None:
    """Answer with a problem, unless an answer has begun. The problem is the error, as a rule, whose trace holds the
    frames that it passed: a name for it in one of those would keep it, and with it the request's body."""
    problem, allow = _problem(error)
    if problem.status == 500:
        _log.error("request failed", exc_info=error, extra={"told": {"request_id": state["request_id"]}})
    state["note"]["problem"] = problem.detail
    if sender.status:
        return
    headers, body = _encoded(problem, state["request_id"], allow)
    await sender({"type": "http.response.start", "status": problem.status, "headers": headers})
    await sender({"type": "http.response.body", "body": body, "more_body": True})
    if problem.unread:
        await _linger(receive)
    await sender({"type": "http.response.body"})


async def _linger(receive: Receive) -> None:
    """Throw away what comes of a body, for a moment: to a client that still sends, the end of the connection is a
    reset, which would take the answer from it."""
    with anyio.move_on_after(_LINGER):
        while (await receive()).get("more_body", False):
            pass


def _encoded(problem: Problem, request_id: str, allow: str | None) -> tuple[RawHeaders, bytes]:
    """The headers and the body of a problem's answer."""
    body = json.dumps(problem.document(request_id)).encode()
    found = {**problem.headers, "content-length": str(len(body))} | ({"allow": allow} if allow else {})
    return [(name.encode(), value.encode("latin-1")) for name, value in found.items()], body


def _own_headers(request_id: str) -> RawHeaders:
    """What every answer has."""
    return [(b"x-request-id", request_id.encode()), *_HEADERS]
