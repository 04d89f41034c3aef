"""What was found, as tables and as a picture."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

PUBLIC, OURS = "public sampler", "staged, ONNX Runtime"


def tables(found: Mapping[str, Any]) -> str:
    """Markdown."""
    machine, versions = found["machine"], found["machine"]["versions"]
    lines = [f"{machine['processor']}, {machine['cores']} cores, {found['threads']} threads, load "
             f"{found['load_average_before']} before and {found['load_average_after']} after; "
             + ", ".join(f"{name} {version}" for name, version in versions.items())]  # fmt: skip
    if found["other_processes_cores"] is not None:
        lines.append(f"Other processes kept {found['other_processes_cores']:.1f} cores busy meanwhile.")
    for part, told in found["parts"].items():
        lines += ["", *{"ways": _ways, "canvas": _canvas}[part](told)]
    lines += [f"\nNot run: {what}: {why}" for what, why in found["lacking"].items()]
    return "\n".join(lines)


def _ways(told: Mapping[str, Any]) -> Iterator[str]:
    height, width = told["shape"]
    yield f"{told['model']}, {height}x{width}: seconds per image, from {len(told['rows_timed'])} evenly spaced rows"
    sizes = list(dict.fromkeys(one["batch"] for one in told["times"]))
    found = {(one["way"], one["batch"]): one["seconds_per_image"] for one in told["times"]}
    slow = {size: found[PUBLIC, size] for size in sizes if (PUBLIC, size) in found}
    yield from _table(("way", *(f"batch {size}" for size in sizes), *(f"times faster, batch {size}" for size in slow)))
    for way in dict.fromkeys(one["way"] for one in told["times"]):
        cells = (f"{found[way, size]:.3g}" if (way, size) in found else "" for size in sizes)
        ratios = (f"{slow[size] / found[way, size]:.3g}" if (way, size) in found else "" for size in slow)
        yield _row((way, *cells, *ratios))
    yield from _reads(told["reads"])


def _reads(told: Mapping[str, Any]) -> Iterator[str]:
    rows, steps = told["rows"], told["steps"]
    yield f"\nParameters read at row i and column j, by their remainders by {len(rows)} and {len(steps[0])}"
    yield from _table(("i", "row graph", *(f"step, j = {j}" for j in range(len(steps[0])))))
    for i, (row, step) in enumerate(zip(rows, steps, strict=True)):
        yield _row((str(i), f"{row:,}", *(f"{count:,}" for count in step)))


def _canvas(told: Mapping[str, Any]) -> Iterator[str]:
    yield f"{told['model']}: microseconds per pixel"
    yield from _table(("canvas", "public, batch 1", "ours, batch 1", "ours, batch 16", "times faster, batch 1"))
    found = {(tuple(one["shape"]), one["way"], one["batch"]): one["us_per_pixel"] for one in told["times"]}
    for shape in dict.fromkeys(tuple(one["shape"]) for one in told["times"]):
        three = [found.get((shape, *which)) for which in ((PUBLIC, 1), (OURS, 1), (OURS, 16))]
        ratio = three[0] / three[1] if three[0] and three[1] else None
        yield _row((f"{shape[0]}x{shape[1]}", *(f"{one:.4g}" if one else "" for one in (*three, ratio))))


def _table(head: tuple[str, ...]) -> Iterator[str]:
    yield ""
    yield _row(head)
    yield _row(("---",) * len(head))


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def picture(found: Mapping[str, Any]) -> bytes:
    """PNG: seconds per image by batch size, and microseconds per pixel by side of the canvas."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    both = figure.subplots(1, 2)
    for axes, part, x, y in zip(both, ("ways", "canvas"), ("batch", "side"), ("seconds_per_image", "us_per_pixel"),
                                strict=True):  # fmt: skip
        times = [one | {"side": one["shape"][0]} for one in found["parts"].get(part, {}).get("times", ())]
        lines = dict.fromkeys((one["way"], one["batch"] if part == "canvas" else None) for one in times)
        for way, batch in lines:
            own = [one for one in times if one["way"] == way and batch in (None, one["batch"])]
            label = way if batch is None else f"{way}, batch {batch}"
            axes.plot([one[x] for one in own], [one[y] for one in own], "o-", label=label)
        axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y.replace("_", " "), title=part)
        ticks = sorted({one[x] for one in times})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
        if times:
            axes.legend(fontsize=8)
    figure.suptitle(f"{found['machine']['processor']}, {found['threads']} threads")
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120)
    return data.getvalue()
