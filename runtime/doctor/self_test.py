"""The self-test of an engine: a tiny prior, whose codes and logits are known, drawn and scored with it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.manifest import PARTS
from pixelsnail_infer.runtime.drawing.loading import load
from pixelsnail_infer.runtime.drawing.sampler import Sampler

__all__ = ["KNOWN", "MODEL", "NEAR", "drawn", "name_in_model", "self_test"]

MODEL = "model.zip"
"""Beside this file; `examples/make_doctor_model.py` writes it. It holds the ONNX files, the archive, and `KNOWN`."""
KNOWN = "known.npz"
NEAR = 1e-3
"""How far logits may be from the known ones, in standard deviations of theirs."""
_EXACT, _NEAR = ("codes", "filtered", "completed"), ("logits", "logprob")


def name_in_model(part: str) -> str:
    """What a part is called in `MODEL`: "step", one of `PARTS`, or "archive"."""
    return {"step": "tiny.onnx", "archive": "tiny.pt"}.get(part, f"tiny.{part}.onnx")


def drawn(sampler: Sampler) -> dict[str, NDArray[Any]]:
    """What is known of the model: images of all its classes, drawn through every graph, their logits and likelihoods.

    int64 [n, H, W] of `codes`, of `filtered` (top-k) and of `completed` (`codes` again, whose upper half is given);
    float32 [n, H, W, L] of `logits` and [n, H, W] of `logprob`, of `codes`.
    """
    classes = np.arange(sampler.manifest.conditions[0].levels or 0)
    images, (height, width) = len(classes), sampler.manifest.shape
    codes = sampler.sample(images, seed=0, label=classes)
    upper = np.arange(height)[:, None].repeat(width, 1) < height // 2
    return {
        "codes": codes,
        "filtered": sampler.sample(images, seed=1, label=classes, top_k=3),
        "completed": sampler.sample(images, seed=0, label=classes, known=codes, known_mask=upper),
        "logits": sampler.replay(codes, label=classes),
        "logprob": sampler.score(codes, label=classes),
    }


def self_test(backend: str, device: str, archive: bool) -> tuple[bool, str]:
    """Whether an engine gives on a device what is known, and one line that says how it was. `archive` says which of the
    two files it runs. Raises what the engine raises."""
    with zipfile.ZipFile(io.BytesIO(_here(MODEL))) as opened:
        held = {name: opened.read(name) for name in opened.namelist()}
    siblings = None if archive else {part: held[name_in_model(part)] for part in PARTS}
    source = held[name_in_model("archive" if archive else "step")]
    with load(source, siblings=siblings, device=device, backend=backend) as sampler:
        found = drawn(sampler)
    with np.load(io.BytesIO(held[KNOWN])) as known:
        return judged(found, known)


def judged(found: Mapping[str, NDArray[Any]], known: Mapping[str, NDArray[Any]]) -> tuple[bool, str]:
    """Whether what was found is what is known, and a line that says so."""
    wrong = [f"{(found[name] != known[name]).sum()} of {known[name].size} {name}"
             for name in _EXACT if not np.array_equal(found[name], known[name])]  # fmt: skip
    if wrong:
        return False, f"it gives other codes than it must: {', '.join(wrong)}"
    off = float(np.max([np.abs(found[name] - known[name]).max() / known[name].std() for name in _NEAR]))
    if not off <= NEAR:  # NaN, which NumPy's max gives and Python's may not, is not
        return False, f"its logits or likelihoods are off by {off:.1e} of their standard deviation, at most {NEAR:.0e}"
    return True, f"{len(known['codes'])} images with the codes that they must have, logits to {off:.0e}"


def _here(name: str) -> bytes:
    return resources.files("pixelsnail_infer.runtime.doctor").joinpath(name).read_bytes()
