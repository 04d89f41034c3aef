"""What the trainers on scikit-learn's 8x8 digits share: the digits and their split, the loop, plain slow samples, the
file that is written.

The digits have 17 grey levels (0…16), which are the codes. They are split into 1,397 to train on, 200 to watch, and
200 that are looked at once, at the end: their bits per dimension are printed and stored in the file.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

SHAPE, LEVELS, LABELS = (8, 8), 17, 10
Split = tuple[Tensor, Tensor]  # codes int64 [N, 8, 8], labels int64 [N]
Net = TypeVar("Net", bound=nn.Module)


def load_splits(levels: int = LEVELS) -> tuple[Split, Split, Split]:
    """Training, watched and held-out digits of so many grey levels; the split is the same for every seed."""
    digits = load_digits()
    codes = (torch.from_numpy(digits.images) * (levels - 1) / (LEVELS - 1)).round().long()  # [1797, 8, 8]
    labels = torch.from_numpy(digits.target).long()  # [1797]
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(1797))
    held_out, watched, train = order[:200], order[200:400], order[400:]
    return (codes[train], labels[train]), (codes[watched], labels[watched]), (codes[held_out], labels[held_out])


def averaged(
    model: Net,
    args: argparse.Namespace,
    data: Split,
    loss: Callable[[Tensor, Tensor], Tensor],
    bits: Callable[[Net], float],
    *,
    weight_decay: float,
    settle: Callable[[Net], object] = lambda average: None,
) -> Net:
    """Train `model`; the averaged weights (exponential moving average) after the last epoch, in evaluation mode.

    `loss(codes, labels)` is that of a batch, in nats. After every epoch `settle(average)` runs, and `bits(average)` is
    shown; no epoch is picked by its figures. `args` has epochs, batch, lr and ema.
    """
    codes, labels = data
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), args.lr, (0.9, 0.99), weight_decay=weight_decay, fused=True)
    steps = args.epochs * (len(codes) // args.batch)
    warm_up = min(100, max(steps // 10, 1))

    def rate(step: int) -> float:
        return min((step + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * step / steps)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    bar = tqdm(range(args.epochs), unit="epoch")
    for _ in bar:
        model.train()
        total, batches = 0.0, torch.randperm(len(codes)).split(args.batch)
        batches = [batch for batch in batches if len(batch) == args.batch]
        for batch in batches:
            value = loss(codes[batch], labels[batch])
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            total += value.item()
            with torch.no_grad():
                for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
                    slow.lerp_(fast, 1 - args.ema)
        settle(average)
        bar.set_postfix(
            train=f"{total / len(batches) / math.log(2):.3f}",
            watched=f"{bits(average):.3f} bits/dim",
        )
    return average.eval()


@torch.no_grad()
def write_preview(logits: Callable[[Tensor], Tensor], count: int, levels: int, path: Path, seed: int) -> None:
    """Draw `count` digits, one full forward `logits(codes)`, [N, levels, 8, 8], for every pixel: the plain slow way.
    They are written as a PNG, ten in a row."""
    from PIL import Image

    generator = torch.Generator().manual_seed(seed)
    codes = torch.zeros(count, *SHAPE, dtype=torch.int64)
    for i in range(SHAPE[0]):
        for j in range(SHAPE[1]):
            probability = logits(codes)[:, :, i, j].softmax(dim=1)
            codes[:, i, j] = torch.multinomial(probability, 1, generator=generator)[:, 0]
    rows = count // 10
    grid = F.pad(codes, [1, 1, 1, 1]).view(rows, 10, 10, 10).permute(0, 2, 1, 3).reshape(rows * 10, 100)
    pixels = (grid * 255 // (levels - 1)).to(torch.uint8).numpy()
    Image.fromarray(pixels).resize((800, rows * 80), Image.Resampling.NEAREST).save(path)


def save(model: nn.Module, args: argparse.Namespace, bits: float, **more: Any) -> None:
    """Write {'model': state_dict, 'args': argparse.Namespace} to `args.out`, and say what was reached."""
    stored = {k: v for k, v in vars(args).items() if not isinstance(v, Path)} | {"bits_per_dim": bits} | more
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model.state_dict(), "args": argparse.Namespace(**stored)}, args.out)
    count, size = sum(parameter.numel() for parameter in model.parameters()), args.out.stat().st_size
    print(f"held out: {bits:.3f} bits/dim; {count:,} parameters, {size:,} bytes: {args.out}")
