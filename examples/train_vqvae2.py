"""Train a small VQ-VAE-2 on 64x64 patches of two photographs, and both priors over its codes, on the CPU in minutes.

    python examples/train_vqvae2.py --out out        writes out/vqvae.pt, out/vqvae_top.pt, out/vqvae_bottom.pt

The photographs are scikit-learn's (`photographs.py`); their left four fifths are trained on, the right ones looked at
once, at the end. Three networks are trained in turn, each on fresh patches at every step:

  vqvae.pt           64x64 RGB to 8x8 top and 16x16 bottom codes and back
  vqvae_top.pt       a prior of the top codes, with attention, given the photograph's label
  vqvae_bottom.pt    a prior of the bottom codes given the top codes

The files are in the formats of the VQ-VAE-2 family: the VQ-VAE's a bare state_dict, the priors' {'model', 'args'}.
`make demo-vq` exports all three and draws with them.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from photographs import LABELS, grid_patches, load_photographs, random_patches
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from pixelsnail_infer.models import Prior, PriorConfig
from pixelsnail_infer.models.layers import CausalConv2d
from pixelsnail_infer.models.vqvae import VqVae
from pixelsnail_infer.models.vqvae_config import VqVaeConfig
from pixelsnail_infer.models.vqvae_layers import CodeBook, nearest_codes

SIZE, FACTOR = 64, 4  # a bottom code stands for 4x4 pixels, a top code for 8x8
COMMITMENT, DECAY, DEAD = 0.25, 0.99, 0.03


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for the three checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, nargs=3, default=[3000, 2500, 3500], metavar=("VQVAE", "TOP", "BOTTOM"))
    parser.add_argument("--batches", type=int, nargs=3, default=[16, 32, 16], metavar=("VQVAE", "TOP", "BOTTOM"))
    parser.add_argument("--levels", type=int, default=128, help="codes in each of both code books")
    parser.add_argument("--vq-channel", type=int, default=48)
    parser.add_argument("--embed-dim", type=int, default=24)
    parser.add_argument("--vq-lr", type=float, default=2e-3)
    parser.add_argument("--channel", type=int, default=48, help="of both priors")
    parser.add_argument("--prior-lr", type=float, default=3e-3)
    parser.add_argument("--dropout", type=float, default=0.1, help="of both priors")
    return parser.parse_args()


class Averages:
    """The moving averages that a code book follows (van den Oord et al. 2017, appendix A.1), and its straight-through
    estimate. A code that is no longer used is moved to a vector of the batch."""

    def __init__(self, book: CodeBook) -> None:
        self.book, self.started = book, False
        self.count = torch.ones(book.embed.shape[1])
        self.total = book.embed.clone()

    @torch.no_grad()
    def _follow(self, flat: Tensor, codes: Tensor) -> None:
        chosen = F.one_hot(codes.flatten(), self.count.numel()).float()  # [N, n]
        self.count.lerp_(chosen.sum(0), 1 - DECAY)
        self.total.lerp_(flat.T @ chosen, 1 - DECAY)
        dead = (self.count < DEAD).nonzero().flatten()
        self.total[:, dead] = flat[torch.randint(len(flat), (len(dead),))].T
        self.count[dead] = 1.0
        self.book.embed.copy_(self.total / self.count.clamp_min(1e-5))

    def __call__(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The codes' vectors with the gradient of `vectors` [B, D, h, w], and the commitment loss."""
        flat = vectors.detach().permute(0, 2, 3, 1).flatten(0, 2)  # [B h w, D]
        if not self.started:
            self.started = True
            self.total.copy_(flat[torch.randint(len(flat), (self.count.numel(),))].T)
            self.book.embed.copy_(self.total)
        codes = nearest_codes(vectors.detach(), self.book.table)
        taken = self.book(codes)
        self._follow(flat, codes)
        return vectors + (taken - vectors).detach(), F.mse_loss(vectors, taken)


def steps(count: int, parameters: Iterator[nn.Parameter], rate: float, what: str) -> Iterator[Callable[[Tensor], None]]:
    """For each step a function that takes the loss; the rate warms up, then falls along a cosine."""
    optimizer = torch.optim.AdamW(list(parameters), lr=rate, betas=(0.9, 0.99), weight_decay=1e-2, fused=True)

    def factor(step: int) -> float:
        return min((step + 1) / 50, 0.01 + 0.495 * (1 + math.cos(math.pi * step / count)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    bar, smooth = tqdm(range(count), desc=what, unit="step", mininterval=1.0), math.nan

    def learn(loss: Tensor) -> None:
        nonlocal smooth
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
        optimizer.step()
        schedule.step()
        smooth = loss.item() if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss.item()
        bar.set_postfix(loss=f"{smooth:.4f}", refresh=False)

    for _ in bar:
        yield learn


def train_vqvae(args: argparse.Namespace, photographs: list[Tensor], generator: torch.Generator) -> VqVae:
    levels, channel = (args.levels, args.levels), args.vq_channel
    model = VqVae(VqVaeConfig(shape=(SIZE, SIZE), levels=levels, channel=channel, n_res_channel=channel // 2,
                              embed_dim=args.embed_dim, factor=FACTOR))
    top, bottom = Averages(model.quantize_t), Averages(model.quantize_b)
    for learn in steps(args.steps[0], model.parameters(), args.vq_lr, "VQ-VAE"):
        images, _ = random_patches(photographs, args.batches[0], SIZE, generator)
        features = model.enc_b(images)
        coarse, loss_t = top(model.quantize_conv_t(model.enc_t(features)))
        seen = torch.cat([model.dec_t(coarse), features], dim=1)
        fine, loss_b = bottom(model.quantize_conv_b(seen))
        found = model.dec(torch.cat([model.upsample_t(coarse), fine], dim=1))
        learn(F.mse_loss(found, images) + COMMITMENT * (loss_t + loss_b))
    return model.eval().requires_grad_(False)


def make_priors(args: argparse.Namespace) -> tuple[Prior, Prior]:
    side = SIZE // FACTOR
    common = {"levels": args.levels, "channel": args.channel, "res_channel": args.channel, "kernel_size": 3,
              "n_block": 2, "n_res_block": 2, "n_head": 4, "dropout": args.dropout}
    top = PriorConfig(shape=(side // 2, side // 2), n_out_res_block=1, condition="label", n_label=LABELS,
                      label_hidden=(16, 16, 16), **common)
    bottom = PriorConfig(shape=(side, side), attention=False, condition="codes", cond_res_block=2,
                         cond_res_channel=args.channel // 2, **common)
    return Prior(top), Prior(bottom)


def bits_per_code(model: Prior, top: Tensor, bottom: Tensor, labels: Tensor) -> Tensor:
    """Of the top prior or of the bottom one: which one it is shows in its condition."""
    if model.config.condition == "label":
        return F.cross_entropy(model(top, label=labels), top) / math.log(2)
    return F.cross_entropy(model(bottom, condition=top), bottom) / math.log(2)


def train_prior(model: Prior, vqvae: VqVae, args: argparse.Namespace, photographs: list[Tensor],
                generator: torch.Generator) -> Prior:
    """The average of the weights over the last few hundred steps."""
    place, what = (1, "top prior") if model.config.condition == "label" else (2, "bottom prior")
    average = copy.deepcopy(model)
    for step, learn in enumerate(steps(args.steps[place], model.parameters(), args.prior_lr, what)):
        images, labels = random_patches(photographs, args.batches[place], SIZE, generator)
        with torch.no_grad():
            (top, bottom), _ = vqvae.encode(images)
        learn(bits_per_code(model.train(), top, bottom, labels))
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
                slow.lerp_(fast, max(0.005, 1 / (step + 1)))
    clear_masked(average)
    return average.eval().requires_grad_(False)


@torch.no_grad()
def clear_masked(model: Prior) -> None:
    """Zero what the causal masks hide: it never learned, and the public code zeroes it in place at every forward."""
    for module in model.modules():
        if isinstance(module, CausalConv2d):
            module.conv.conv.weight_v.copy_(module.conv.conv.masked_v())


def save(content: object, path: Path, model: nn.Module) -> None:
    torch.save(content, path)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{path}: {count:,} parameters, {path.stat().st_size:,} bytes")


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    photographs, rest = load_photographs()
    vqvae = train_vqvae(args, photographs, generator)
    save(vqvae.state_dict(), args.out / "vqvae.pt", vqvae)
    images, labels = grid_patches(rest, SIZE, step=16)
    with torch.no_grad():
        (top, bottom), _ = vqvae.encode(images)
        error = F.mse_loss(vqvae.decode(top, bottom).clamp(-1, 1), images).item()
    print(f"held out: peak signal-to-noise ratio {10 * math.log10(4 / error):.2f} dB, {len(top.unique())} of the top "
          f"and {len(bottom.unique())} of the bottom codes used")
    for model, name in zip(make_priors(args), ("top", "bottom"), strict=True):
        average = train_prior(model, vqvae, args, photographs, generator)
        with torch.no_grad():
            args.bits_per_code = bits_per_code(average, top, bottom, labels).item()
        stored = {k: v for k, v in vars(args).items() if not isinstance(v, Path)}
        stored = argparse.Namespace(**stored, hier=name, n_head=model.config.n_head)
        save({"model": average.state_dict(), "args": stored}, args.out / f"vqvae_{name}.pt", average)
        print(f"held out: {args.bits_per_code:.3f} bits per code")


if __name__ == "__main__":
    main()
