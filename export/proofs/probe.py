"""The oracle: what the network itself does when pixels change, before anything of it is analysed.

It knows nothing of the analysis, so that neither can hide what the other misses. A causal network's prediction of a
pixel does not move when that pixel or a later one changes; and it is the same at every call, and for every image that
it shares a batch with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.export.proofs.reference import BATCH, MANY, Reference
from pixelsnail_infer.export.proofs.verify import CLOSE, EXACT, Check

__all__ = ["Leak", "find_leak", "find_pair", "fingerprint", "unsteady"]

SMALL = 100  # positions up to which all are tried, in float64
TOGETHER = 16  # images of a small canvas in one forward
SPREAD = 6  # positions of a large canvas besides its ends

Images = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Leak:
    """Changing pixel `changed`, or with `onwards` that and all later ones, moves the prediction of pixel `moved` by
    `by` standard deviations of the logits. Raster positions on a canvas `width` wide."""

    changed: int
    moved: int
    by: float
    width: int
    onwards: bool

    def __str__(self) -> str:
        place = self._place(self.changed)
        what = f"the pixels from {place} on" if self.onwards else f"pixel {place}"
        own = "its own prediction" if self.changed == self.moved and not self.onwards else \
            f"the prediction of pixel {self._place(self.moved)}"
        return f"changing {what} changes {own} by {self.by:.2g} standard deviations of the logits"

    def _place(self, position: int) -> str:
        return f"(row {position // self.width}, column {position % self.width})"


def fingerprint(reference: Reference) -> Images:
    """The logits of one image whose logits are known, `[1, H, W, parameters]`, computed anew: to see whether the model
    is still the same."""
    images, conditions, _ = reference.known(1)
    return reference.logits(images, conditions)


def unsteady(reference: Reference) -> str | None:
    """Why the network is no function of one image and its conditions, or None.

    Raises `ModelError` where the network fails or its logits say nothing.
    """
    # Both sizes of the proofs: what a model keeps for each is float32 before anything is float64.
    alone = reference.known(1).logits
    sigma = float(alone.std())
    if sigma == 0:
        raise ModelError("the network gives the same numbers for every pixel, as before any training; nothing could be "
                         "verified with it. Take a trained checkpoint, or one after a step of training.")
    together = reference.known(BATCH).logits
    if reference.positions > 1 and float(np.abs(together[0] - together[1]).max()) == 0:
        raise ModelError("the network gives two random images the same logits: it does not depend on its pixels, or "
                         "keeps what it was given first outside of the module.")
    again = reference.repeated()
    if again is not None and (by := float(np.abs(again[0] - alone).max()) / sigma) > CLOSE:
        return (f"a second forward of one module differs by {by:.2g} standard deviations of the logits: every forward "
                f"changes {', '.join(again[1])} once more")
    if (apart := float(np.abs(together[-1:] - alone).max()) / sigma) <= CLOSE:
        return None
    if (by := float(np.abs(fingerprint(reference) - alone).max()) / sigma) > CLOSE:
        return f"two forwards on the same image differ by {by:.2g} standard deviations of the logits"
    return f"an image's logits change by {apart:.2g} standard deviations with the other images of its batch"


def find_leak(reference: Reference) -> tuple[Check, Leak | None]:
    """Change one later pixel at a time, and at some positions all pixels from there on: what was found, and the first
    leak.

    Every position of canvases of up to `SMALL` is tried in float64; of larger ones the ends and a few between, in
    float32. Where a forward takes seconds, only what follows a position is changed, which moves whatever its parts do.
    """
    count, (height, width) = reference.positions, reference.shape
    small = count <= SMALL
    spread = sorted({round(p) for p in np.linspace(0, count - 1, SPREAD)})
    ends = sorted({p for p in (0, width - 1, width, count - width - 1, count - width, count - 1) if 0 <= p < count})
    single, onwards = list(range(count)) if small else ends, spread
    if count > MANY:
        between = (height * k // 4 * width + width * k // 4 for k in (1, 2, 3))
        single, onwards = [], sorted({0, width - 1, *between, count - width, count - 1})
    dtype, limit = (torch.float64, EXACT) if small else (torch.float32, CLOSE)
    worst = 0.0
    for leak in _tried(reference, single, onwards, dtype, limit):
        worst = max(worst, leak.by)
        if leak.by > limit:
            pairs = _tried(reference, ends, [], dtype, limit) if count > MANY else iter(())
            leak = next((pair for pair in pairs if pair.by > limit), leak)
            return _check(worst, limit, single, onwards, count, dtype), leak
    return _check(worst, limit, single, onwards, count, dtype), None


def find_pair(reference: Reference) -> Leak | None:
    """The same in float64 and at more positions, for a leak that is known but too faint for `find_leak`."""
    count = reference.positions
    single = list(range(count)) if count <= SMALL else sorted({round(p) for p in np.linspace(0, count - 1, 4 * SPREAD)})
    found = _tried(reference, single, single[:1], torch.float64, EXACT)
    return next((leak for leak in found if leak.by > EXACT), None)


def _check(worst: float, limit: float, single: Sequence[int], onwards: Sequence[int], count: int,
           dtype: torch.dtype) -> Check:
    tried = len({*single, *onwards})
    detail = f"{tried} of {count} positions, {dtype}".replace("torch.", "")
    return Check("oracle", worst, limit, tried, detail)


def _tried(reference: Reference, single: Sequence[int], onwards: Sequence[int], dtype: torch.dtype, limit: float
           ) -> Iterator[Leak]:
    """For each change, single pixels first, the first prediction that moves beyond `limit` where none may move, else
    the one that moves most."""
    images, conditions, logits = reference.known(1, dtype)
    count, width = reference.positions, reference.shape[1]
    together = TOGETHER if count <= SMALL else 1
    before = logits.reshape(count, -1)
    sigma = float(before.std())
    changes = [(p, False) for p in single] + [(p, True) for p in onwards if p < count - 1 or p not in single]
    for start in range(0, len(changes), together):
        some = changes[start:start + together]
        batch = np.stack([reference.changed(images[0], p, None if rest else p + 1) for p, rest in some])
        repeated = {name: np.repeat(value, len(some), axis=0) for name, value in conditions.items()}
        after = reference.logits(batch, repeated, dtype).reshape(len(some), count, -1)
        for (p, rest), now in zip(some, after, strict=True):
            moved = np.abs(now[:p + 1] - before[:p + 1]).max(axis=1) / sigma  # [p + 1]
            q = int((moved > limit).argmax() if (moved > limit).any() else moved.argmax())
            yield Leak(p, q, float(moved[q]), width, rest)
