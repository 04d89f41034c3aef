"""A causal network with the habits that public code has, written for these tests.

Weights masked through `.data` in every forward, masks from an `lru_cache` in another file, one-hot inputs made by
`.float()`, a `cache` dictionary, sums and activations in place, and a tuple as the result.
"""

import warnings
from dataclasses import dataclass

import torch
from masks import earlier
from torch import nn
from torch.nn import functional as F


@dataclass
class Sizes:
    """A dataclass needs its module to be known by name while it is made."""

    width: "int"
    levels: "int"


def normed(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(layer)


class Masked(nn.Module):
    """A weight-normed 3x3 convolution whose later taps every forward sets to zero, the middle one only if `strict`."""

    def __init__(self, into, out, strict):
        super().__init__()
        self.conv = normed(nn.Conv2d(into, out, 3, padding=1))
        self.first = 1 if strict else 2

    def forward(self, x):
        self.conv.weight_v.data[:, :, 1, self.first :].zero_()
        self.conv.weight_v.data[:, :, 2] *= 0
        return self.conv(x)


class Gated(nn.Module):
    def __init__(self, width, extra):
        super().__init__()
        self.activation = nn.ELU(inplace=True)
        self.inner = Masked(width, width, strict=False)
        self.outer = Masked(width, 2 * width, strict=False)
        self.extra = nn.Conv2d(extra, 2 * width, 1, bias=False) if extra else None
        self.dropout = nn.Dropout(0.3)

    def forward(self, x, extra=None):
        y = self.dropout(self.activation(self.inner(F.elu(x))))
        y = self.outer(y)
        if extra is not None:
            y += self.extra(extra)
        y = F.glu(y, 1)
        y += x
        return y


class Attention(nn.Module):
    """Two heads over all earlier positions."""

    def __init__(self, width):
        super().__init__()
        self.query, self.key, self.value = (normed(nn.Linear(width, width)) for _ in range(3))

    def forward(self, x):
        batch, width, rows, columns = x.shape
        flat = x.view(batch, width, -1).transpose(1, 2)
        q, k, v = (f(flat).view(batch, -1, 2, width // 2).transpose(1, 2) for f in (self.query, self.key, self.value))
        before, some = (mask.type_as(x) for mask in earlier(rows * columns))
        weights = torch.matmul(q, k.transpose(2, 3)) / (width // 2) ** 0.5
        weights = torch.softmax(weights.masked_fill(before == 0, -1e4), 3) * some
        return torch.matmul(weights, v).transpose(1, 2).reshape(batch, rows, columns, width).permute(0, 3, 1, 2)


class Net(nn.Module):
    """`shape` [rows, columns]; conditions: `coarse` codes of half the size, `label`, `style` and `depth`."""

    def __init__(self, shape, levels, width=8, coarse=0, labels=0, style=0, depth=0):
        super().__init__()
        self.sizes = Sizes(width, levels)
        self.first = Masked(levels, width, strict=True)
        self.blocks = nn.ModuleList(Gated(width, width) for _ in range(2))
        self.attention = Attention(width)
        self.join = nn.Conv2d(width, width, 1)
        self.coarse = nn.Conv2d(coarse, width, 3, padding=1) if coarse else None
        self.label = nn.Embedding(labels, width) if labels else None
        self.style = nn.Linear(style, width) if style else None
        self.depth = nn.Conv2d(depth, width, 3, padding=1) if depth else None
        self.register_buffer("places", torch.linspace(-1, 1, shape[0] * shape[1]).view(1, 1, *shape))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))  # a whole number, as trainers keep
        self.out = nn.Sequential(nn.ELU(inplace=True), nn.Conv2d(width, levels, 1))

    def forward(self, codes, coarse=None, label=None, style=None, depth=None, cache=None):
        cache = {} if cache is None else cache
        y = self.first(F.one_hot(codes, self.sizes.levels).permute(0, 3, 1, 2).float())
        if "extra" not in cache:
            cache["extra"] = self.conditions(y, coarse, label, style, depth)
        for block in self.blocks:
            y = block(y, cache["extra"])
        y += self.join(self.attention(y + self.places.expand(len(codes), -1, -1, -1)))
        return self.out(y), cache

    def conditions(self, y, coarse, label, style, depth):
        extra = torch.zeros_like(y)
        if coarse is not None:
            hot = F.one_hot(coarse, self.coarse.in_channels).permute(0, 3, 1, 2).type_as(self.places)
            extra = extra + F.interpolate(self.coarse(hot), scale_factor=2)
        if label is not None:
            extra = extra + self.label(label)[:, :, None, None]
        if style is not None:
            extra = extra + torch.tanh(self.style(style))[:, :, None, None]
        if depth is not None:
            extra = extra + self.depth(depth)
        return extra


def make(**arguments):
    """A function may stand in the place of the class."""
    return Net(**arguments)
