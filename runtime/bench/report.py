"""The result of a benchmark as a table for people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["columns", "report"]

IMAGES = ("batch", "s per image", "images/s", "first row ms", "floor s", "x floor", "states MiB", "buffers MiB",
          "peak MiB", "others' cores")  # fmt: skip
PARTS = ("batch", "part", "p50 ms", "p95", "p99", "in the loop p50", "p95", "p99", "added", "floor ms", "x floor",
         "best", "multiplying", "reading", "GFLOP/s", "count")  # fmt: skip
MOST_PLACES = 6


def report(found: Mapping[str, Any]) -> str:
    """The text of what `bench` found."""
    lines = [*_heads(found), "", *columns([IMAGES, *map(_image, found["batches"], found["starts"])])]
    parts = [_part(batch, part) for batch in found["batches"] for part in ("row", "step")]
    return "\n".join([*lines, "", *columns([PARTS, *parts]), *_notes(found)])


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a table whose columns are as wide as what stands in them."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def short(value: float | None, digits: int = 3) -> str:
    """A number of so many digits, without an exponent; "-" for None."""
    if value is None:
        return "-"
    before = math.floor(math.log10(abs(value))) + 1 if value else digits
    return f"{value:,.{min(max(digits - before, 0), MOST_PLACES)}f}"


def _heads(found: Mapping[str, Any]) -> Iterator[str]:
    model, machine, start = found["model"], found["machine"], found["starts"][0]
    kind = "archive" if model["archive"] else "graphs"
    what = f"{model['family']}, {'x'.join(map(str, model['shape']))}, {model['parameters']['total']:,} parameters"
    yield f"model    {Path(model['path']).name}: {what}, {kind} of {_mib(model['file_bytes'])} MiB"
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    memory = "" if machine["memory_bytes"] is None else f", {machine['memory_bytes'] / 2**30:.0f} GiB"
    yield f"machine  {machine['processor']}, {machine['cores']} cores{memory}, {machine['system']}"
    yield f"         {versions}; device {found['device']}, {found['threads']} threads"
    loads = [found["load_average_before"], found["load_average_after"]]
    if None not in loads:
        yield f"load     {loads[0][0]:.1f} before, {loads[1][0]:.1f} after"
    yield (f"start    a fresh process: import {start['import_s']:.2f} s, load {start['load_s']:.2f} s, first row "
           f"{start['first_row_s']:.2f} s, first image{'s' * (start['batch'] > 1)} {start['first_images_s']:.2f} s "
           f"(batch {start['batch']})")  # fmt: skip


def _image(batch: Mapping[str, Any], start: Mapping[str, Any]) -> tuple[str, ...]:
    floor, memory = batch["floor"] or {}, batch["memory"]
    over = floor.get("time_over_floor", {}).get("image")
    return (
        str(batch["batch"]), short(batch["seconds_per_image"]), short(batch["images_per_second"]),
        short(batch["first_row_ms"]), short(floor.get("seconds_per_image")), short(over), _mib(memory["state_bytes"]),
        _mib(memory["buffer_bytes"]), "-" if start["peak_bytes"] is None else _mib(start["peak_bytes"]),
        short(batch["other_processes_cores"], 2),
    )  # fmt: skip


def _part(batch: Mapping[str, Any], part: str) -> tuple[str, ...]:
    told, floor = batch[part], (batch["floor"] or {}).get(part, {})
    over, best = ((batch["floor"] or {}).get(key, {}).get(part) for key in ("time_over_floor", "best_over_floor"))
    graph, loop = ([short(told.get(which, {}).get(p)) for p in ("p50", "p95", "p99")] for which in ("graph", "loop"))
    floors = (floor.get(key) for key in ("floor_ms", "multiplying_ms", "reading_ms", "gflop_per_s"))
    least, multiplying, reading, rate = map(short, floors)
    return (str(batch["batch"]), part, *graph, *loop, short(told.get("python_ms")), least, short(over), short(best),
            multiplying, reading, rate, str(told["loop"]["count"]))  # fmt: skip


def _notes(found: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    partly = [batch for batch in found["batches"] if batch["rows_timed"] < batch["rows"]]
    if partly:
        some = ", ".join(f"{batch['rows_timed']} at batch {batch['batch']}" for batch in partly)
        yield f"Of {partly[0]['rows']} rows these were timed, evenly spread, and extrapolated to all: {some}."
    if found["batches"][0]["floor"] is None:
        yield f"No floor: it is that of float32, and this model's products are of {found['model']['precision']}."
    else:
        rates = ", ".join(short(batch["floor"]["memory_gb_per_s"]) for batch in found["batches"])
        yield f"Floor: the products alone, or what they read at {rates} GB/s, whichever takes longer."
    for batch in found["batches"]:
        if (waves := batch.get("in_waves")) is not None:
            ratio = short(batch["seconds_per_image"] / waves["seconds_per_image"])
            seconds, timed = short(waves["seconds_per_image"]), f"{waves['waves_timed']} of {waves['waves']}"
            yield (f"In waves at batch {batch['batch']}: {seconds} s per image, {ratio} times as fast as row by row "
                   f"({timed} waves timed).")  # fmt: skip
    others = [batch["other_processes_cores"] or 0 for batch in found["batches"]]
    if max(others) > 0.1:
        yield f"Other processes kept up to {max(others):.1f} cores busy meanwhile: repeat it on a quiet machine."


def _mib(count: int) -> str:
    return short(count / 2**20)
