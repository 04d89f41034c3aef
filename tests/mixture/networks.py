"""Small causal networks over images, with random weights, whose output is a mixture of logistics."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.distributions import LogisticMixture
from pixelsnail_infer.export import export_model
from pixelsnail_infer.export.proofs.reference import Reference
from pixelsnail_infer.manifest import ConditionSpec


class Masked(nn.Conv2d):
    """A convolution of kernel 3 over earlier pixels, and over the pixel itself unless it is `strict`."""

    def __init__(self, into: int, out: int, strict: bool) -> None:
        super().__init__(into, out, 3, padding=1)
        mask = torch.zeros(3, 3)
        mask[0], mask[1, 0], mask[1, 1] = 1, 1, 0 if strict else 1
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=1)


class Network(nn.Module):
    """Masked convolutions with residual blocks, and a vector or a class in every block; with `attention`, one strictly
    causal head over keys that see the raw pixel, so that they exist only once it is drawn."""

    def __init__(
        self, law: LogisticMixture, shape: tuple[int, int], attention: bool, vector: int, classes: int
    ) -> None:
        super().__init__()
        wide, self.shape = 8, shape
        self.first = Masked(law.channels + 1, wide, strict=True)
        self.blocks = nn.ModuleList(Masked(wide, wide, strict=False) for _ in range(2))
        self.vector = nn.Linear(vector, wide) if vector else None
        self.embedding = nn.Embedding(classes, wide) if classes else None
        self.attention = attention
        if attention:
            self.query, self.key = nn.Conv2d(wide, 4, 1), nn.Conv2d(wide + law.channels, 4, 1)
            self.value, self.mixed = nn.Conv2d(wide + law.channels, 4, 1), nn.Conv2d(4, wide, 1)
            positions = shape[0] * shape[1]
            self.register_buffer("past", torch.ones(positions, positions).tril(-1))
        self.out = nn.Conv2d(wide, law.parameters, 1)

    def forward(self, x: Tensor, h: Tensor | None = None, label: Tensor | None = None) -> Tensor:
        y = self.first(torch.cat([x, torch.ones_like(x[:, :1])], 1))
        for block in self.blocks:
            z = block(F.elu(y))
            if h is not None and self.vector is not None:
                z = z + self.vector(h)[:, :, None, None]
            if label is not None and self.embedding is not None:
                z = z + self.embedding(label)[:, :, None, None]
            y = y + torch.tanh(z)
        if self.attention:
            seen = torch.cat([x, y], 1)
            q, k, v = (f(a).flatten(2) for f, a in ((self.query, y), (self.key, seen), (self.value, seen)))
            weights = torch.exp(q.transpose(1, 2) @ k / 4) * self.past  # [B, P, P]
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-6)
            y = y + self.mixed((v @ weights.transpose(1, 2)).view(-1, 4, *self.shape))
        return self.out(F.elu(y))


@dataclass(frozen=True)
class Case:
    """A network and how it is exported."""

    law: LogisticMixture
    shape: tuple[int, int] = (5, 6)
    attention: bool = False
    vector: int = 0
    classes: int = 0

    @property
    def conditions(self) -> tuple[ConditionSpec, ...]:
        vector = (ConditionSpec("h", "vector", (self.vector,), "float32"),) if self.vector else ()
        return vector + ((ConditionSpec("label", "class", (), "int64", self.classes),) if self.classes else ())


CASES = {
    "rgb": Case(LogisticMixture(3, 3)),
    "rgb_rounded": Case(LogisticMixture(2, 3, round=True), (4, 7)),
    "rgb_attention_vector": Case(LogisticMixture(4, 3), (5, 5), attention=True, vector=3),
    "grey": Case(LogisticMixture(3, 1), (6, 4), classes=4),
    "grey_rounded_attention": Case(LogisticMixture(2, 1, round=True), (3, 6), attention=True),
}


def network(case: Case) -> Network:
    """Random weights, the same at every call; log-scales around -2, so that draws are neither all white nor all
    alike."""
    torch.manual_seed(7)
    made = Network(case.law, case.shape, case.attention, case.vector, case.classes)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        kinds = 3 if case.law.channels == 3 else 2
        rest = made.out.bias[case.law.n_mix:].view(case.law.channels, kinds, case.law.n_mix)
        rest[:, 0] += torch.linspace(-0.8, 0.8, case.law.n_mix)
        rest[:, 1] -= 2
    return made.eval().requires_grad_(False)


@functools.cache
def reference(name: str) -> Reference:
    case = CASES[name]
    return Reference(network(case), None, case.shape, case.law, case.conditions)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@functools.cache
def exported(name: str) -> Path:
    """The step file of the network's verified export; read only."""
    case, target = CASES[name], Path(_folder().name) / f"{name}.onnx"
    export_model(network(case), target, distribution=case.law, shape=case.shape, conditions=case.conditions)
    return target
