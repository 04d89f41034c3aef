"""Train a small class-conditional denoiser on scikit-learn's 8x8 digits, on one core in minutes.

    python examples/train_denoiser.py --out examples/denoiser_digits.pt

The network is improved-diffusion's U-Net with two levels, trained to predict the noise (the simple loss of Ho et al.,
2020) under a cosine schedule of 1000 steps, with the public code's defaults for all else. `digits_training.py` splits
the digits: it trains on 1,397 of them, and 400 are left for scores. What is saved is what the public code saves, a bare
state dict of averaged weights (EMA), here in float16. `--state FILE` keeps the whole state of training, so that it can
go on: a run ends after `--seconds` at the latest.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path

import numpy as np
import torch
from digits_training import LABELS, SHAPE, load_splits
from torch import nn
from torch.nn import functional as F

from pixelsnail_infer.denoiser import DiffusionSpec
from pixelsnail_infer.models.unet import UNet
from pixelsnail_infer.models.unet_config import UNetConfig
from pixelsnail_infer.models.unet_layers import Attention, Residual
from pixelsnail_infer.runtime.denoising.schedule import Schedule

DIFFUSION = DiffusionSpec(1000, "cosine", "eps", "fixed-large", True)
CONFIG = UNetConfig(shape=SHAPE, channels=1, width=32, mult=(1, 2), n_res_block=1, attention=(1,), n_head=4,
                    classes=LABELS, low_res=None, learn_sigma=False, scale_shift=True, diffusion=DIFFUSION)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("denoiser_digits.pt"), help="checkpoint to write")
    parser.add_argument("--state", type=Path, help="where the state of training is kept, and taken from if it is there")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--ema", type=float, default=0.998, help="decay of the averaged weights, which are saved")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def fresh_model() -> UNet:
    """With zeros where each block ends, so that training starts from the identity."""
    model = UNet(CONFIG)
    ends: list[nn.Module] = [model.out[-1]]
    for layer in model.modules():
        ends += [layer.out_layers[-1]] if isinstance(layer, Residual) else []
        ends += [layer.proj_out] if isinstance(layer, Attention) else []
    for end in ends:
        for parameter in end.parameters():
            nn.init.zeros_(parameter)
    return model


def train(args: argparse.Namespace) -> UNet:
    """The averaged network."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    (codes, labels), *_ = load_splits()
    images = codes.float()[:, None] / 8 - 1  # [N, 1, 8, 8] in [-1, 1]
    schedule = Schedule.of(DIFFUSION)
    bars, times = torch.from_numpy(schedule.bars), torch.from_numpy(schedule.times)
    model = fresh_model().train()
    averaged, optimizer = copy.deepcopy(model), torch.optim.Adam(model.parameters(), args.lr)
    first, began, losses = 0, time.monotonic(), list[float]()
    if args.state is not None and args.state.exists():
        state = torch.load(args.state)
        first = state["step"]
        torch.set_rng_state(state["random"])
        for name, one in (("model", model), ("averaged", averaged), ("optimizer", optimizer)):
            one.load_state_dict(state[name])
    for step in range(first, args.steps):
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1.0, (step + 1) / 100, 2 * (1 - step / args.steps))
        some = torch.randint(len(images), (args.batch,))
        at, noise = torch.randint(DIFFUSION.steps, (args.batch,)), torch.randn(args.batch, 1, *SHAPE)
        bar = bars[at][:, None, None, None]
        noisy = (bar.sqrt() * images[some] + (1 - bar).sqrt() * noise).float()
        loss = F.mse_loss(model(noisy, times[at], labels[some]), noise)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        decay = min(args.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for average, value in zip(averaged.parameters(), model.parameters(), strict=True):
                average.lerp_(value, 1 - decay)
        losses.append(loss.item())
        over = time.monotonic() - began > args.seconds
        if step % 100 == 99 or over:
            print(f"step {step + 1}: loss {np.mean(losses[-100:]):.4f}, {time.monotonic() - began:.0f} s", flush=True)
        if over:
            break
    if args.state is not None:
        torch.save({"step": step + 1, "random": torch.get_rng_state(), "model": model.state_dict(),
                    "averaged": averaged.state_dict(), "optimizer": optimizer.state_dict()}, args.state)
    return averaged.eval()


def main() -> None:
    args = parse_args()
    model = train(args)
    torch.save({name: tensor.half() for name, tensor in model.state_dict().items()}, args.out)
    print(f"wrote {args.out}: {sum(p.numel() for p in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
