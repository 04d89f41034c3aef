"""Train a small RGB PixelSNAIL on 16x16 patches of scikit-learn's two sample photographs, on the CPU in minutes.

    python examples/train_patches.py --out examples/patches.pt --preview patches.png

The photographs, a Chinese temple (label 0) and a dahlia (label 1), are shrunk to half their size. The model is trained
on patches of their left four fifths and held against a fixed grid of patches of the rest, whose bits per dimension are
printed and stored in the file, next to the weights: {'model': state_dict, 'args': argparse.Namespace}. In `args`,
`arch` names the published network that this is a small one of, and the fields of `SnailConfig` say how it differs.

`sample` is the plain slow way: the whole network once for every pixel.
"""

from __future__ import annotations

import argparse
import copy
import math
from dataclasses import asdict
from pathlib import Path

import torch
from photographs import LABELS, Split, grid_patches, load_photographs, random_patches
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from pixelsnail_infer.models import Snail, SnailConfig
from pixelsnail_infer.models.mixture import bits_per_dimension, draw
from pixelsnail_infer.models.snail import initialise

ARCH, SIZE = "h12_noup_smallkey", 16


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("patches.pt"), help="checkpoint to write")
    parser.add_argument("--preview", type=Path, help="also sample twelve patches of each photograph into this PNG")
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--ema", type=float, default=0.995, help="decay of the averaged weights, which are saved")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--attn-rep", type=int, default=2)
    parser.add_argument("--nr-resnet", type=int, default=2)
    parser.add_argument("--nr-filters", type=int, default=40)
    parser.add_argument("--nr-mix", type=int, default=5)
    parser.add_argument("--dropout", type=float, default=0.05)
    return parser.parse_args()


def make_config(args: argparse.Namespace) -> SnailConfig:
    return SnailConfig(
        shape=(SIZE, SIZE),
        attn_rep=args.attn_rep,
        nr_resnet=args.nr_resnet,
        nr_filters=args.nr_filters,
        nr_mix=args.nr_mix,
        condition="label",
        n_class=LABELS,
        dropout=args.dropout,
    )


@torch.no_grad()
def evaluate(model: Snail, split: Split) -> float:
    """Bits per dimension."""
    model.eval()
    total = 0.0
    for pixels, labels in zip(split[0].split(32), split[1].split(32), strict=True):
        total += bits_per_dimension(model(pixels, label=labels), pixels).item() * len(pixels)
    return total / len(split[0])


@torch.no_grad()
def sample(model: Snail, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Pixels float32 [N, 3, 16, 16] for labels int64 [N], on the 8-bit grid, one full forward for every pixel."""
    model.eval()
    config = model.config
    pixels = torch.zeros(len(labels), 3, *config.shape)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).clamp(1e-5, 1 - 1e-5)

    for i in tqdm(range(config.shape[0]), desc="sampling", unit="row"):
        for j in range(config.shape[1]):
            params = model(pixels, label=labels)[:, :, i : i + 1, j : j + 1]
            gumbel = -torch.log(-torch.log(uniform(len(labels), config.nr_mix, 1, 1)))
            logistic = torch.logit(uniform(len(labels), 3, 1, 1))
            pixels[:, :, i, j] = draw(params, gumbel, logistic, bits=8)[:, :, 0, 0]
    return pixels


def write_preview(model: Snail, photographs: list[Tensor], path: Path, seed: int) -> None:
    """Four rows: samples and true patches of the one photograph, then of the other."""
    from PIL import Image

    generator = torch.Generator().manual_seed(seed)
    drawn = sample(model, torch.arange(LABELS).repeat_interleave(12), generator)
    rows = []
    for label, photograph in enumerate(photographs):
        true = random_patches([photograph] * LABELS, 12, SIZE, generator)[0]
        rows += [drawn[12 * label : 12 * label + 12], true]
    cells = F.pad(torch.stack(rows), [1, 1, 1, 1], value=1.0)  # [4, 12, 3, 18, 18]
    grid = cells.permute(0, 3, 1, 4, 2).reshape(4 * (SIZE + 2), 12 * (SIZE + 2), 3)
    pixels = ((grid + 1) * 127.5).round().to(torch.uint8).numpy()
    Image.fromarray(pixels).resize((pixels.shape[1] * 5, pixels.shape[0] * 5), Image.Resampling.NEAREST).save(path)


@torch.no_grad()
def narrow(model: Snail) -> None:
    """Start with narrow logistics spread over the greys: from broad ones, which the data-dependent start leaves, the
    optimizer has hundreds of small steps to go before anything about the pixels is learned."""
    mixtures = model.config.nr_mix
    model.out.g.mul_(0.2)
    model.out.b.zero_()
    kinds = model.out.b[mixtures:].view(3, 3, mixtures)  # colours; means, log-scales, coefficients
    kinds[0, 0], kinds[1:, 0] = torch.linspace(-0.8, 0.8, mixtures), torch.linspace(-0.2, 0.2, mixtures)
    kinds[0, 1], kinds[1:, 1] = -2.0, -3.0
    kinds[0, 2] = kinds[2, 2] = 1.0  # green follows red, and blue follows green


def train(args: argparse.Namespace, photographs: list[Tensor], held_out: Split) -> Snail:
    """The averaged weights after the last step; the held-out figure is shown, never chosen by."""
    generator = torch.Generator().manual_seed(args.seed)
    model = Snail(make_config(args)).train()
    pixels, labels = random_patches(photographs, 128, SIZE, generator)
    initialise(model, pixels, label=labels)
    narrow(model)
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.95, 0.999), weight_decay=0.0, fused=True)

    def rate(step: int) -> float:
        return min((step + 1) / 50, 0.02 + 0.49 * (1 + math.cos(math.pi * step / args.steps)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    bar = tqdm(range(args.steps), unit="step", mininterval=1.0)
    shown, smooth = float("nan"), float("nan")
    for step in bar:
        model.train()
        pixels, labels = random_patches(photographs, args.batch, SIZE, generator)
        loss = bits_per_dimension(model(pixels, label=labels), pixels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        smooth = loss.item() if step == 0 else 0.97 * smooth + 0.03 * loss.item()
        decay = min(args.ema, (step + 1) / (step + 10))
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
                slow.lerp_(fast, 1 - decay)
        if step % 200 == 199:
            shown = evaluate(average, (held_out[0][::5], held_out[1][::5]))
        bar.set_postfix(train=f"{smooth:.3f}", held_out=f"{shown:.3f} bits/dim", refresh=False)
    return average.eval()


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    photographs, rest = load_photographs()
    held_out = grid_patches(rest, SIZE)
    model = train(args, photographs, held_out)
    args.bits_per_dim = evaluate(model, held_out)
    stored = {k: v for k, v in vars(args).items() if not isinstance(v, Path)} | asdict(model.config)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model.state_dict(), "args": argparse.Namespace(**stored, arch=ARCH)}, args.out)
    count = sum(parameter.numel() for parameter in model.parameters())
    size = args.out.stat().st_size
    print(f"held out: {args.bits_per_dim:.3f} bits/dim; {count:,} parameters, {size:,} bytes: {args.out}")
    if args.preview:
        write_preview(model, photographs, args.preview, args.seed)


if __name__ == "__main__":
    main()
