"""An engine inside a FastAPI program that has other things to do.

    pip install 'pixelsnail-infer[cpu]' fastapi uvicorn
    DIGITS=digits.onnx uvicorn --app-dir examples fastapi_app:app
    curl -s 'localhost:8000/digits/7?seed=3'          codes as JSON
    curl -sN 'localhost:8000/digits/7/rows'           a line of JSON for every row, as it is drawn

The engine lives as long as the program. A client that goes away cancels its request, for `with` does so at the end of
the task; a full queue is an answer with a hint when to come again, and nothing waits in a thread.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse

from pixelsnail_infer.errors import DeadlineExpired, EngineError, QueueFull, RequestError
from pixelsnail_infer.runtime import Engine, Ticket, load

SECONDS = 30.0  # within which a picture must be there


@asynccontextmanager
async def life(app: FastAPI) -> AsyncIterator[None]:
    """Load before the first request; draw what was accepted before the program ends."""
    with load(os.environ["DIGITS"]) as sampler, Engine(sampler, slots=16, queue=64) as engine:
        app.state.engine = engine
        yield


app = FastAPI(lifespan=life)


@app.exception_handler(QueueFull)
async def full(request: Request, error: QueueFull) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 429, {"retry-after": str(math.ceil(error.wait or 1))})


@app.get("/digits/{label}")
async def digit(label: int, seed: int = 0) -> dict[str, Any]:
    """One digit."""
    with submitted(label, seed) as ticket:
        try:
            codes = await ticket
        except (DeadlineExpired, EngineError) as error:
            raise HTTPException(503, str(error)) from error
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
    try:
        ticket: Ticket[Any] = app.state.engine.submit(1, seed=seed, label=label, deadline=SECONDS)
    except QueueFull:
        raise
    except RequestError as error:
        raise HTTPException(422, str(error)) from error
    return ticket
