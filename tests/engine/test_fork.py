"""After a fork the child's calls raise `EngineClosed`, whatever the parent's threads held at that moment."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import asyncio, json, os, signal, sys, threading
from pixelsnail_infer.errors import EngineClosed
from pixelsnail_infer.runtime import Engine, load

def forked(call):
    child = os.fork()
    if not child:
        signal.alarm(10)  # ends a child that hangs
        try:
            call()
            code = 1
        except EngineClosed:
            code = 42
        except SystemExit:
            code = 43
        except BaseException:
            code = 2
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

async def awaited(): await ticket
async def iterated(): return [row async for row in ticket]
def leave(block):
    with block: sys.exit(0)

engine = Engine(load(sys.argv[1], threads=1), slots=1)
ticket = engine.submit(20000, label=0)
begun = ticket.rows(); next(begun)
calls = {
    "submit": lambda: engine.submit(label=0), "close": engine.close, "stats": engine.stats, "cancel": ticket.cancel,
    "result": ticket.result, "rows": lambda: next(ticket.rows()), "more rows": lambda: list(begun),
    "await": lambda: asyncio.run(awaited()), "async for": lambda: asyncio.run(iterated()),
    "with engine": lambda: leave(engine), "with ticket": lambda: leave(ticket),
}
found, held, go = {}, threading.Event(), threading.Event()
def hold():
    with ticket._delivery._lock, engine._level.loop._lock:
        held.set(); go.wait()
thread = threading.Thread(target=hold); thread.start(); held.wait()
for name, call in calls.items():
    found[name] = forked(call)
go.set(); thread.join()
found["parent"] = ticket.cancel() and engine.close()
print(json.dumps(found))
"""


def test_calls_after_a_fork(toy: Path) -> None:
    done = subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM, str(toy)],
                          capture_output=True, text=True, timeout=180)  # fmt: skip
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found.pop("parent") is True
    assert found.pop("with engine") == found.pop("with ticket") == 43  # the child's own way out
    assert found == dict.fromkeys(found, 42) and len(found) == 9
