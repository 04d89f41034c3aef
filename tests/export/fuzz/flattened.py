"""Layers of random networks that take the canvas as a sequence in raster order, and leaks of such."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .causal import STEPS, WIDTHS, Builder, Sees, Value
from .leaks import PLANTS, past, pixels

HOW = ("transformer", "attention", "linear")


class Flat(nn.Module):
    """Learned places, a shift by one if `start` says how what comes first is made, and layers over the sequence."""

    def __init__(self, how: str, start: str, width: int, out: int, places: int, causal: bool = True, ahead: int = 0
                 ) -> None:
        super().__init__()
        self.how, self.start, self.causal, self.ahead = how, start, causal, ahead
        self.into, self.out = nn.Linear(width, 4), nn.Linear(4, out)
        self.places, self.first = nn.Parameter(torch.randn(1, places, 4)), nn.Parameter(torch.randn(1, 1, 4))
        self.qkv = nn.Linear(4, 12)
        self.block = nn.TransformerEncoderLayer(4, 2, 6, 0.0, batch_first=True, norm_first=places % 2 == 0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.into(x.flatten(2).transpose(1, 2))
        count = y.shape[1]
        if self.start == "token":
            y = torch.cat([self.first.expand(len(y), -1, -1), y[:, :-1]], 1)
        elif self.start == "pad":
            y = F.pad(y, [0, 0, 1, 0])[:, :-1]
        elif self.start == "written":
            z = torch.zeros_like(y)
            z[:, 1:] = y[:, :-1]
            y = z
        if self.ahead:
            y = torch.cat([y[:, self.ahead:], torch.zeros_like(y[:, : self.ahead])], 1)
        y = y + self.places
        hidden = torch.ones(count, count, dtype=torch.bool).triu(1)
        if self.how == "transformer":
            y = self.block(y, hidden if self.causal else None)
        elif self.how == "attention":
            q, k, v = (part.view(len(y), count, 2, 2).transpose(1, 2) for part in self.qkv(y).chunk(3, 2))
            y = y + F.scaled_dot_product_attention(q, k, v, is_causal=self.causal).transpose(1, 2).reshape(y.shape)
        return self.out(torch.tanh(y)).transpose(1, 2).reshape(len(x), -1, *x.shape[2:])


def flattened(build: Builder, x: Value) -> Value:
    choices, out = build.choices, build.choices.of(WIDTHS)
    if x.sees == Sees.NOTHING:
        x = build.values[0]  # of conditions alone there are no sequences in raster order
    how, start = choices.of(HOW), choices.of(("token", "pad", "none", "written"))
    sees = Sees.STRICT if start != "none" and x.sees == Sees.INCLUSIVE else x.sees
    layer = Flat(how, start, x.width, out, build.shape[0] * build.shape[1])
    return build.add(layer, (x,), out, sees, f"as a sequence: {start} in front, {how}")


def a_sequence_that_is_not_shifted(build: Builder) -> Value:
    x = pixels(build)
    layer = Flat(build.choices.of(HOW), "none", x.width, x.width, build.shape[0] * build.shape[1])
    return build.add(layer, (x,), x.width, x.sees, "as a sequence, not shifted")


def a_sequence_without_its_mask(build: Builder) -> Value:
    x = past(build)
    layer = Flat(build.choices.of(HOW[:2]), "token", x.width, x.width, build.shape[0] * build.shape[1], causal=False)
    return build.add(layer, (x,), x.width, x.sees, "as a sequence, without a mask")


def a_sequence_shifted_back(build: Builder) -> Value:
    x, ahead = past(build), 1 + build.choices.pick(2)
    layer = Flat(build.choices.of(HOW), "none", x.width, x.width, build.shape[0] * build.shape[1], ahead=ahead)
    return build.add(layer, (x,), x.width, x.sees, f"as a sequence, {ahead} ahead")


STEPS.append(lambda build: flattened(build, build.recent()))
PLANTS.extend((a_sequence_that_is_not_shifted, a_sequence_without_its_mask, a_sequence_shifted_back))
