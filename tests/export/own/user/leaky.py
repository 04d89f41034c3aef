"""Networks without an exact step, or that are not one network: the comment `# <- Name` marks the line to blame."""

import random

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

LEVELS, WIDTH = 5, 6


def hot(codes):
    return F.one_hot(codes, LEVELS).permute(0, 3, 1, 2).float()


class Causal(nn.Module):
    """Masked convolutions; the subclasses spoil it. This one is sound."""

    def __init__(self, shape=(4, 5)):
        super().__init__()
        mask = torch.ones(3, 3)
        mask[1, 1:] = 0
        mask[2] = 0
        self.register_buffer("mask", mask)
        self.first = nn.Conv2d(LEVELS, WIDTH, 3, padding=1)
        self.out = nn.Conv2d(WIDTH, LEVELS, 1)
        places = shape[0] * shape[1]
        self.register_buffer("before", torch.ones(places, places).tril(-1).bool())
        self.query, self.key = nn.Conv2d(WIDTH, WIDTH, 1), nn.Conv2d(WIDTH, WIDTH, 1)
        self.norm = self.make_norm(shape)

    def make_norm(self, shape):
        return nn.Identity()

    def seen(self, codes):
        return F.elu(F.conv2d(hot(codes), self.first.weight * self.mask, self.first.bias, padding=1))

    def spoil(self, y, codes):
        return y

    def forward(self, codes):
        return self.out(self.spoil(self.seen(codes), codes))

    def attention(self, y, hide):
        q, k = self.query(y).flatten(2), self.key(y).flatten(2)
        return (k @ hide(q.transpose(1, 2) @ k).transpose(1, 2)).view_as(y)


class SeesItself(Causal):
    def seen(self, codes):
        return F.elu(self.first(hot(codes)))  # <- SeesItself


class PaddedBlock(Causal):
    """The gated block of some blog posts: ordinary 3x3 convolutions, padded by 1."""

    def make_norm(self, shape):
        return nn.Conv2d(WIDTH, 2 * WIDTH, 3, padding=1)

    def spoil(self, y, codes):
        return y + F.glu(self.norm(y), 1)  # <- PaddedBlock


class Unmasked(Causal):
    def spoil(self, y, codes):
        q, k = self.query(y).flatten(2), self.key(y).flatten(2)
        weights = torch.softmax(q.transpose(1, 2) @ k, -1)
        return y + (k @ weights.transpose(1, 2)).view_as(y)  # <- Unmasked


class FirstRowMasked(Causal):
    """Every key of the first query is masked alike, so that its softmax is the mean of all."""

    def spoil(self, y, codes):
        q, k = self.query(y).flatten(2), self.key(y).flatten(2)
        weights = torch.softmax((q.transpose(1, 2) @ k).masked_fill(~self.before, -1e4), -1)
        return y + (k @ weights.transpose(1, 2)).view_as(y)  # <- FirstRowMasked


class InstanceNormed(Causal):
    def make_norm(self, shape):
        return nn.InstanceNorm2d(WIDTH, affine=True)

    def spoil(self, y, codes):
        return self.norm(y)  # <- InstanceNormed


class GroupNormed(Causal):
    def make_norm(self, shape):
        return nn.GroupNorm(2, WIDTH)

    def spoil(self, y, codes):
        return self.norm(y)  # <- GroupNormed


class NormedOverTheCanvas(Causal):
    def make_norm(self, shape):
        return nn.LayerNorm([WIDTH, *shape])

    def spoil(self, y, codes):
        return self.norm(y)  # <- NormedOverTheCanvas


class Painted(Causal):
    """A one-hot that paints every code over the whole plane."""

    def spoil(self, y, codes):
        plane = F.one_hot(codes.flatten(1), LEVELS).sum(1).float()  # <- Painted
        return y + F.pad(plane, [0, WIDTH - LEVELS])[:, :, None, None]


class SqueezedAndExcited(Causal):
    def spoil(self, y, codes):
        return y * torch.sigmoid(y.mean((2, 3), keepdim=True))  # <- SqueezedAndExcited


class Faint(Causal):
    """A leak of one in ten thousand of what the pixel gives, and only from the last row."""

    def spoil(self, y, codes):
        last = F.pad(1e-6 * self.first(hot(codes))[:, :, -1:], [0, 0, y.shape[2] - 1, 0])  # <- Faint
        return y + last


class Fainter(Causal):
    """A leak by construction that no number shows."""

    def spoil(self, y, codes):
        return y + 1e-200 * self.first(hot(codes))  # <- Fainter


class Dropped(Causal):
    def spoil(self, y, codes):
        return F.dropout(y, 0.5)  # <- Dropped


class BatchStatistics(Causal):
    def make_norm(self, shape):
        return nn.BatchNorm2d(WIDTH)

    def spoil(self, y, codes):
        return self.norm.train()(y)  # <- BatchStatistics


class BatchNormWithoutRunning(Causal):
    def make_norm(self, shape):
        return nn.BatchNorm2d(WIDTH, track_running_stats=False)

    def spoil(self, y, codes):
        return self.norm(y)  # <- BatchNormWithoutRunning


class MadeInTheForward(Causal):
    """Parameters made anew at every call, as some blog posts have them."""

    def spoil(self, y, codes):
        return nn.Conv2d(WIDTH, WIDTH, 1)(y)  # <- MadeInTheForward


class LeaksThroughTheUnknown(SeesItself):
    def spoil(self, y, codes):
        return torch.erfinv(torch.tanh(y))  # <- LeaksThroughTheUnknown


class Branching(Causal):
    def spoil(self, y, codes):
        return y if y.mean() > 0.1 else -y  # <- Branching


class ReadsALabel(Causal):
    """As `ReadsANumber`, of a condition."""

    def forward(self, codes, label):
        return self.out(self.seen(codes) * (1 + label.tolist()[0]))  # <- ReadsALabel


class ReadsANumber(Causal):
    def spoil(self, y, codes):
        return y * float(codes[0, 0, 0].item() + 1)  # <- ReadsANumber


class ThroughNumpy(Causal):
    def spoil(self, y, codes):
        return torch.from_numpy(np.tanh(y.numpy()))  # <- ThroughNumpy


class Selecting(Causal):
    def spoil(self, y, codes):
        y[y > 1] = 1
        return y + y[y > 0].mean()  # <- Selecting


class Counting(Causal):
    """Not the same from call to call, without a random operation of PyTorch."""

    def spoil(self, y, codes):
        return y * random.random()


class Remembering(Causal):
    """Keeps its first result outside of the module."""

    store = {}

    def spoil(self, y, codes):
        if "y" not in self.store:
            self.store["y"] = y[:1]
        return self.store["y"].expand_as(y)


class Failing(Causal):
    def spoil(self, y, codes):
        return y.view(len(y), WIDTH, 7, 7)  # <- Failing


class Untrained(Causal):
    def spoil(self, y, codes):
        return 0 * y + self.out.bias.sum() * 0

    def forward(self, codes):
        return torch.zeros_like(super().forward(codes))


class NotANumber(Causal):
    def spoil(self, y, codes):
        return y / 0
