"""The result of a benchmark as a picture: matplotlib draws it, and is asked for when it is needed."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from pixelsnail_infer.errors import BackendError

__all__ = ["plot", "require_matplotlib"]


def require_matplotlib() -> None:
    """Raise `BackendError` now if no plot can be drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise BackendError("A plot needs matplotlib: install it (pip install matplotlib), or use --json.") from error


def plot(found: Mapping[str, Any]) -> bytes:
    """PNG of what `bench` found: seconds per image by batch size, and a row and a step, each above its floor."""
    require_matplotlib()
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    image, parts = figure.subplots(1, 2)
    batches = found["batches"]
    sizes = [batch["batch"] for batch in batches]
    image.plot(sizes, [batch["seconds_per_image"] for batch in batches], "o-", label="measured")
    if batches[0]["floor"]:
        image.plot(sizes, [batch["floor"]["seconds_per_image"] for batch in batches], "k--", label="floor")
    image.set(ylabel="seconds per image", title="An image")
    for part, colour in (("row", "C0"), ("step", "C1")):
        told = [batch[part]["loop"] for batch in batches]
        middle = [one["p50"] for one in told]
        above = [one["p95"] - one["p50"] for one in told]
        parts.errorbar(sizes, middle, [[0.0] * len(sizes), above], fmt="o-", color=colour, capsize=3, label=f"{part}, "
                       "p50 to p95")  # fmt: skip
        if batches[0]["floor"]:
            floors = [batch["floor"][part]["floor_ms"] for batch in batches]
            parts.plot(sizes, floors, "--", color=colour, label=f"{part}, floor")
    parts.set(ylabel="milliseconds", title="A row and a step")
    for axes in (image, parts):
        axes.set(xscale="log", yscale="log", xlabel="batch size", xticks=sizes, xticklabels=[str(k) for k in sizes])
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
        axes.legend()
    model, machine = found["model"], found["machine"]
    figure.suptitle(f"{model['family']}, {'x'.join(map(str, model['shape']))}, {model['parameters']['total']:,} "
                    f"parameters; {machine['processor']}, {found['threads']} threads")  # fmt: skip
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120)
    return data.getvalue()
