"""Square patches of scikit-learn's two sample photographs, a Chinese temple (label 0) and a dahlia (label 1)."""

from __future__ import annotations

import torch
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.nn import functional as F

LABELS = 2
Split = tuple[Tensor, Tensor]  # pixels float32 [N, 3, size, size] in [-1, 1], labels int64 [N]


def load_photographs() -> tuple[list[Tensor], list[Tensor]]:
    """Left four fifths and right fifth of each photograph, uint8 [3, H, W], at half size."""
    train, held_out = [], []
    for image in load_sample_images().images:
        pixels = torch.tensor(image).permute(2, 0, 1).float()  # [3, 427, 640]
        pixels = F.avg_pool2d(pixels, 2).round().to(torch.uint8)  # [3, 213, 320]
        edge = pixels.shape[2] * 4 // 5
        train.append(pixels[:, :, :edge])
        held_out.append(pixels[:, :, edge:])
    return train, held_out


def to_unit(pixels: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1.0


def random_patches(photographs: list[Tensor], count: int, size: int, generator: torch.Generator) -> Split:
    """Patches from anywhere, half of them mirrored."""
    labels = torch.randint(LABELS, (count,), generator=generator)
    patches = []
    for label in labels.tolist():
        photograph = photographs[label]
        row, column = (int(torch.randint(n - size + 1, (1,), generator=generator)) for n in photograph.shape[1:])
        patch = photograph[:, row : row + size, column : column + size]
        patches.append(patch.flip(2) if torch.rand(1, generator=generator) < 0.5 else patch)
    return to_unit(torch.stack(patches)), labels


def grid_patches(photographs: list[Tensor], size: int, step: int | None = None) -> Split:
    """Every patch of a grid of patches `step` apart; by default they do not overlap."""
    step = step or size
    parts = [p.unfold(1, size, step).unfold(2, size, step).permute(1, 2, 0, 3, 4).flatten(0, 1) for p in photographs]
    labels = torch.cat([torch.full((len(part),), label) for label, part in enumerate(parts)])
    return to_unit(torch.cat(parts)), labels
