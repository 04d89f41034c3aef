"""The page at `/`, and the description of the interface for people and for programs."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from pixelsnail_infer.runtime.serving.openapi import openapi
from pixelsnail_infer.runtime.serving.problem import KINDS
from pixelsnail_infer.runtime.serving.service import Service

__all__ = ["page_routes"]

_FOLDER = Path(__file__).parent / "page"
_FILES = {
    "/": ("index.html", "text/html"), "/page.css": ("page.css", "text/css"), "/page.js": ("page.js", "text/javascript"),
}  # fmt: skip
_CACHE = {"cache-control": "no-cache"}

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def page_routes(service: Service) -> list[Route]:
    """The routes of this file. Files are read once; no path of a request reaches the disk."""
    document = openapi(service.settings)
    page = docs_page(document)

    async def described(request: Request) -> Response:
        return JSONResponse(document, headers=_CACHE)

    async def docs(request: Request) -> Response:
        return HTMLResponse(page, headers=_CACHE)

    files = [Route(path, _file((_FOLDER / name).read_bytes(), media)) for path, (name, media) in _FILES.items()]
    return [*files, Route("/openapi.json", described), Route("/docs", docs)]


def docs_page(document: dict[str, Any]) -> str:
    """The OpenAPI document as a page without scripts."""
    parts = []
    for path, methods in document["paths"].items():
        for method, said in methods.items():
            if method == "parameters":
                continue
            answers = ", ".join(f"{status} {answer['description']}" for status, answer in said["responses"].items())
            parts.append(f"<h2><code>{method.upper()} {_text(path)}</code></h2><p>{_text(said['summary'])}. "
                         f"{_text(said.get('description', ''))}</p><p>{_text(answers)}</p>")  # fmt: skip
    for name, schema in document["components"]["schemas"].items():
        parts.append(f"<h2>{_text(name)}</h2><pre tabindex='0'>{_text(json.dumps(schema, indent=2))}</pre>")
    rows = "".join(f"<tr id='{kind}'><td>{said.status}</td><td><code>{kind}</code></td><td>{_text(said.title)}</td>"
                   f"<td>{_text(said.advice)}</td></tr>" for kind, said in KINDS.items())  # fmt: skip
    about = document["info"]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Interface of pixelsnail-infer</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        '<link rel="stylesheet" href="/page.css"></head>'
        f'<body class="doc"><header><h1>Interface</h1><p>version {_text(about["version"])} · '
        f'<a href="/">page</a> · <a href="/openapi.json">OpenAPI</a></p></header><main><p>{_text(about["description"])}'
        f"</p>{''.join(parts)}<h2>Problems</h2><table>{rows}</table></main></body></html>"
    )


def _file(content: bytes, media: str) -> Handler:
    async def send(request: Request) -> Response:
        return Response(content, media_type=media, headers=_CACHE)

    return send


def _text(value: str) -> str:
    return html.escape(value)
