"""An engine inside a FastAPI program that has other things to do.

    pip install 'pixelsnail-infer[cpu]' fastapi uvicorn
    DIGITS=digits.onnx uvicorn --app-dir examples fastapi_app:app
    curl -s 'localhost:8000/digits/7?seed=3'          codes as JSON
    curl -sN 'localhost:8000/digits/7/rows'           a line of JSON for every row, as it is drawn

The engine lives as long as the program. A client that goes away cancels its request: `with` does so at the end of the
task, which for rows ends with the connection, and for a whole picture looks now and then whether the client is there.
A full queue is an answer with a hint when to come again, and nothing waits in a thread.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse

from pixelsnail_infer.errors import EngineClosed, PixelsnailError, QueueFull, RequestError
from pixelsnail_infer.runtime import Engine, Ticket, load

SECONDS = 30.0  # within which a picture must be there
LOOK = 0.5  # seconds after which to look whether the client is there


@asynccontextmanager
async def life(app: FastAPI) -> AsyncIterator[None]:
    """Load before the first request; draw what was accepted before the program ends."""
    with load(os.environ["DIGITS"]) as sampler, Engine(sampler, slots=16, queue=64) as engine:
        app.state.engine = engine
        yield


app = FastAPI(lifespan=life)


@app.exception_handler(PixelsnailError)
async def told(request: Request, error: PixelsnailError) -> JSONResponse:
    """What is wrong with a request, or with the moment: then another one, or another server, may have it."""
    detail = {"detail": str(error)}
    if isinstance(error, QueueFull):
        return JSONResponse(detail, 429, {"retry-after": str(math.ceil(error.wait or 1))})
    wrong = isinstance(error, RequestError) and not isinstance(error, EngineClosed)
    return JSONResponse(detail, 422 if wrong else 503)  # closing, too late, given up, or the backend failed


@app.get("/digits/{label}")
async def digit(label: int, request: Request, seed: int = 0) -> dict[str, Any]:
    """One digit."""
    with submitted(label, seed) as ticket:
        while not ticket.done:
            try:
                await asyncio.wait_for(ticket, LOOK)  # to stop waiting does not cancel
            except asyncio.TimeoutError:
                if await request.is_disconnected():
                    raise HTTPException(499) from None  # nobody reads this
        codes = await ticket
    return {"label": label, "seed": seed, "codes": codes[0].tolist()}


@app.get("/digits/{label}/rows")
async def rows(label: int, seed: int = 0) -> StreamingResponse:
    """The same, row by row."""
    ticket = submitted(label, seed)

    async def lines() -> AsyncIterator[str]:
        with ticket:
            async for row in ticket:
                yield json.dumps({"row": row.row, "codes": row.pixels.tolist()}) + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


def submitted(label: int, seed: int) -> Ticket[Any]:
    ticket: Ticket[Any] = app.state.engine.submit(1, seed=seed, label=label, deadline=SECONDS)
    return ticket
