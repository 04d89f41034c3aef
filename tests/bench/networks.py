"""A network whose multiplications can be counted by hand."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional as F

from pixelsnail_infer.export.exporting import export_model

HEIGHT, WIDTH, LEVELS, FIRST, SECOND = 4, 6, 5, 8, 16


class Counted(torch.nn.Module):
    """Two causal layers, each 2 x 3 taps on the rows above and 2 to the left, and the logits.

    The first layer sees codes: the exporter looks its taps up. The second one multiplies FIRST by SECOND at each tap.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.codes = torch.nn.Embedding(LEVELS, 3)
        sizes = ((3, FIRST), (FIRST, SECOND))
        self.above = torch.nn.ModuleList(torch.nn.Conv2d(a, b, (2, 3)) for a, b in sizes)
        self.left = torch.nn.ModuleList(torch.nn.Conv2d(a, b, (1, 2)) for a, b in sizes)
        self.logits = torch.nn.Conv2d(SECOND, LEVELS, 1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.codes(pixels).permute(0, 3, 1, 2)
        for above, left in zip(self.above, self.left, strict=True):
            x = F.relu(above(F.pad(x, (1, 1, 2, 0))[:, :, :-1]) + left(F.pad(x, (2, 0, 0, 0))[:, :, :, :-1]))
        return self.logits(x)


ROW = WIDTH * 2 * 3 * FIRST * SECOND
"""Multiplications of a row of one image: six taps above, at every column."""
STEP = 2 * FIRST * SECOND + SECOND * LEVELS
"""Of a step: two taps to the left, and the logits."""


def export_counted(folder: Path) -> tuple[Path, Path]:
    """The network's ONNX files and its archive."""
    paths = folder / "counted.onnx", folder / "counted.pt"
    for path, name in zip(paths, ("onnx", "torchscript"), strict=True):
        export_model(Counted().eval(), path, levels=LEVELS, shape=(HEIGHT, WIDTH), format=name)
    return paths
