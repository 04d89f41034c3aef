"""VQ-VAEs: images to codes and back, in one or two levels.

Two levels as in rosinality/vq-vae-2-pytorch, after Razavi et al. 2019, "Generating Diverse High-Fidelity Images with
VQ-VAE-2". One level as in its forks: with the parts `enc`, `quantize_conv`, `quantize`, `dec`, or, with the suffix
"_b" and an encoder of parallel branches, as in liuxubo717/sound_generation. Legend of shapes: `vqvae_layers.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pixelsnail_infer.models.vqvae_config import VqVaeConfig
from pixelsnail_infer.models.vqvae_layers import CodeBook, ImageDecoder, ImageEncoder, nearest_codes

__all__ = ["VqVae"]


class VqVae(nn.Module):
    """The network that `config` describes; parameters are named as in the public files.

    The code books' moving averages of training (`cluster_size`, `embed_avg`) are left out. Nothing depends on the
    image's size; any that `config.coarsest` divides is taken. Thread-safe for concurrent eval-mode calls.
    """

    def __init__(self, config: VqVaeConfig) -> None:
        super().__init__()
        self.config = config
        channel, dim, inplace = config.channel, config.embed_dim, config.relu_inplace
        blocks = (config.n_res_block, config.n_res_channel)
        encoder = ImageEncoder(config.in_channel, channel, *blocks, config.factor, config.kernels, inplace)
        decoder = ImageDecoder(
            dim * len(config.levels), config.in_channel, channel, *blocks, config.factor, inplace
        )
        self.suffix = "_b" if config.two_level else config.suffix
        self.add_module("enc" + self.suffix, encoder)
        if config.two_level:
            self.enc_t = ImageEncoder(channel, channel, *blocks, 2, (4,), inplace)
            self.quantize_conv_t = nn.Conv2d(channel, dim, 1)
            self.quantize_t = CodeBook(dim, config.levels[0])
            self.dec_t = ImageDecoder(dim, dim, channel, *blocks, 2, inplace)
            self.upsample_t = nn.ConvTranspose2d(dim, dim, 4, stride=2, padding=1)
        seen = channel + dim if config.two_level else channel
        self.add_module("quantize_conv" + self.suffix, nn.Conv2d(seen, dim, 1))
        self.add_module("quantize" + self.suffix, CodeBook(dim, config.levels[-1]))
        self.dec = decoder

    @property
    def tables(self) -> tuple[Tensor, ...]:
        """The code books of all levels in the order of `config.codes`, each [n, D]."""
        fine = self.get_submodule("quantize" + self.suffix)
        assert isinstance(fine, CodeBook)
        return (self.quantize_t.table, fine.table) if self.config.two_level else (fine.table,)

    def decode(self, *codes: Tensor) -> Tensor:
        """Images [B, C, H, W] of every level's codes, int64 [B, h, w], in the order of `config.codes`."""
        fine: Tensor = self.get_submodule("quantize" + self.suffix)(codes[-1])  # [B, D, h, w]
        if self.config.two_level:
            coarse = self.upsample_t(self.quantize_t(codes[0]))  # [B, D, h, w]
            fine = torch.cat([coarse, fine], dim=1)
        return self.dec(fine)

    def encode(self, image: Tensor, given: tuple[Tensor, ...] = ()) -> tuple[list[Tensor], list[Tensor]]:
        """Every level's codes int64 [B, h, w] of images [B, C, H, W], and the vectors [B, D, h, w] that they replace.

        Codes that are `given` for the first levels are taken in place of the nearest ones.
        """
        features: Tensor = self.get_submodule("enc" + self.suffix)(image)  # [B, C, h, w]
        codes, vectors = list(given), []
        if self.config.two_level:
            vectors.append(self.quantize_conv_t(self.enc_t(features)))
            if not codes:
                codes.append(nearest_codes(vectors[0], self.quantize_t.table))
            features = torch.cat([self.dec_t(self.quantize_t(codes[0])), features], dim=1)
        vectors.append(self.get_submodule("quantize_conv" + self.suffix)(features))
        if len(codes) < len(vectors):
            codes.append(nearest_codes(vectors[-1], self.tables[-1]))
        return codes, vectors
