"""The process that looks at one engine and tries it. Whatever happens to it, what it has told until then is known."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pixelsnail_infer.messages import one_line
from pixelsnail_infer.runtime.backends.choosing import ENGINES
from pixelsnail_infer.runtime.doctor.looking import LOOKS, missing
from pixelsnail_infer.runtime.doctor.self_test import self_test

__all__ = ["main"]

Tell = Callable[[dict[str, Any]], None]


def main(arguments: Sequence[str]) -> None:
    """Look at an engine, given its name, the number of GPUs and the file that takes what is told: a JSON object a line.

    First {"seen": …}, {"missing": …} or {"broken": …}; then, for each device, {"begins": device}, and
    {"device", "works", "says", "seconds"}.
    """
    name, gpus, path = arguments
    with Path(path).open("w", encoding="utf-8") as lines:

        def tell(what: dict[str, Any]) -> None:
            lines.write(json.dumps(what) + "\n")
            lines.flush()

        _look(name, int(gpus), tell)


def _look(name: str, gpus: int, tell: Tell) -> None:
    look, modules = LOOKS[name]
    try:
        seen = look(gpus)
    except (Exception, SystemExit) as error:  # a package may raise anything as it is imported
        gone = missing(error, modules)
        tell({"missing": True} if gone else {"broken": f"{type(error).__name__}: {one_line(error, 300)}"})
        return
    tell({"seen": asdict(seen)})
    for device in seen.devices if name in ENGINES else ():
        tell({"begins": device})
        started = time.perf_counter()
        try:
            works, says = self_test(name, device, ENGINES[name].format == "torchscript")
        except (Exception, SystemExit) as error:
            works, says = False, one_line(error, 500) or type(error).__name__
        tell({"device": device, "works": works, "says": says, "seconds": round(time.perf_counter() - started, 2)})
