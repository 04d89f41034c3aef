"""A small gated PixelCNN of two stacks, with codes on half the grid as its condition: its waves have a lead."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.manifest import ConditionSpec

from ..zoo import WIDTH, conv
from ..zoo_convolutions import TwoStack

LEVELS, SHAPE = 6, (4, 8)
CONDITIONS = (ConditionSpec("condition", "codes", (2, 4), "int64", LEVELS),)


class TwoStacks(nn.Module):
    """Codes [B, *SHAPE] and condition [B, 2, 4], int64, to logits [B, LEVELS, *SHAPE]."""

    def __init__(self) -> None:
        super().__init__()
        self.cond = conv(LEVELS, WIDTH, 3, padding=1)
        self.one, self.two, self.three = TwoStack(LEVELS, True), TwoStack(WIDTH, False), TwoStack(WIDTH, False)
        self.out = conv(WIDTH, LEVELS)

    def forward(self, codes: Tensor, condition: Tensor) -> Tensor:
        x, y = (F.one_hot(one, LEVELS).permute(0, 3, 1, 2).to(self.out.weight) for one in (codes, condition))
        h = F.interpolate(self.cond(y), scale_factor=2)
        v, left = self.one(x, x)
        v, left = self.two(torch.tanh(v + h), left + h)
        _, left = self.three(v, left)
        logits: Tensor = self.out(F.relu(left))
        return logits


def two_stacks() -> TwoStacks:
    """Random weights, the same at every call, with logits of a spread that makes draws depend on them."""
    torch.manual_seed(5)
    model = TwoStacks().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model.requires_grad_(False)
