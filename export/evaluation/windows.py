"""Reading a map through a window that may reach beyond it."""

from __future__ import annotations

import torch

__all__ = ["window"]


def window(value: torch.Tensor, offset: tuple[int, int], frame: tuple[int, int], border: torch.Tensor | None
           ) -> torch.Tensor:
    """`value [B, h, w, ...]` seen at `offset` as `[B, *frame, ...]`; positions outside show `border` (default 0)."""
    (dy, dx), (fh, fw), (h, w) = offset, frame, value.shape[1:3]
    if dy == 0 and dx == 0 and (fh, fw) == (h, w):
        return value
    shape = (value.shape[0], fh, fw, *value.shape[3:])
    if border is None:
        out = value.new_zeros(shape)
    else:
        out = border.to(value.dtype).expand(shape).clone()
    r0, r1, c0, c1 = max(-dy, 0), min(h - dy, fh), max(-dx, 0), min(w - dx, fw)
    if r0 < r1 and c0 < c1:
        out[:, r0:r1, c0:c1] = value[:, r0 + dy:r1 + dy, c0 + dx:c1 + dx]
    return out
