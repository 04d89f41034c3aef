"""Write the tiny prior with which `pixelsnail-infer doctor` tries engines, and what it must draw.

    python examples/make_doctor_model.py runtime/doctor/model.zip

The weights are random, of a fixed seed, with a spread of logits that makes the draws depend on the network. No draw is
a near-tie: the rounding of any engine in float32 leaves the codes as they are. Run it again when the graphs change.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsnail_infer.distributions.categorical import kept
from pixelsnail_infer.export import export_model
from pixelsnail_infer.manifest import PARTS
from pixelsnail_infer.models import Prior, PriorConfig
from pixelsnail_infer.noise import gumbel_row, image_keys
from pixelsnail_infer.runtime import load
from pixelsnail_infer.runtime.doctor.self_test import KNOWN, drawn, name_in_model

CLASSES = 3
CONFIG = PriorConfig(
    shape=(4, 4), levels=8, channel=8, kernel_size=3, n_block=1, n_res_block=1, res_channel=4, n_head=1,
    condition="label", n_label=CLASSES, label_hidden=(4,),
)  # fmt: skip
SEED = 22
MARGIN = 1e-2  # of logits: how far the best score of every draw is before the second


@torch.no_grad()
def make_model(seed: int) -> Prior:
    """The prior of a seed."""
    torch.manual_seed(seed)
    model = Prior(CONFIG).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.normal_(std=0.3)
        elif name.endswith("weight_g"):
            parameter.mul_(1.7)
    return model


def margin(logits: NDArray[np.float32], seed: int, top_k: int | None = None) -> float:
    """How near the draws of `logits` [n, H, W, L] come to others: the least distance of the best score from the second,
    and with top-k of the last level that stays from the first that does not."""
    n, height, width, levels = logits.shape
    keys = image_keys(seed, n)
    scores = logits + np.stack([gumbel_row(keys, row, width, levels) for row in range(height)], 1)
    ordered = np.sort(logits, -1)
    found = np.inf
    if top_k is not None:
        scores = np.where(kept(logits, 1.0, top_k), scores, -np.inf)
        found = float((ordered[..., -top_k] - ordered[..., -top_k - 1]).min())
    best = np.sort(scores, -1)
    return min(found, float((best[..., -1] - best[..., -2]).min()))


def export(model: Prior, folder: Path) -> dict[str, bytes]:
    """All files of the model, by what they are called in the package."""
    given: dict[str, Any] = {"levels": CONFIG.levels, "shape": CONFIG.shape, "family": "tiny",
                             "conditions": {"label": f"class:{CLASSES}"}}
    export_model(model, folder / name_in_model("step"), **given)
    export_model(model, folder / name_in_model("archive"), format="torchscript", **given)
    return {(name := name_in_model(part)): (folder / name).read_bytes() for part in ("step", *PARTS, "archive")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the file to write")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        held = export(make_model(SEED), Path(folder))
    parts = {part: held[name_in_model(part)] for part in PARTS}
    with load(held[name_in_model("step")], siblings=parts) as sampler:
        known = drawn(sampler)
        filtered = sampler.replay(known["filtered"], label=range(CLASSES))
    least = min(margin(known["logits"], 0), margin(filtered, 1, top_k=3))
    if least < MARGIN:
        parser.error(f"a draw of seed {SEED} is decided by {least:.1e} only; take another seed")
    stored = io.BytesIO()
    np.savez(stored, **{name: array.astype(np.uint8) if array.dtype == np.int64 else array
                        for name, array in known.items()})
    held[KNOWN] = stored.getvalue()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in held.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED, 9)  # without the time of day
    print(f"{out}: {out.stat().st_size:,} bytes; every draw is decided by {least:.1e} or more")


if __name__ == "__main__":
    main()
