"""Small first stages of every kind. Their code books are among the vectors that they replace, so that all codes occur,
and far enough apart that rounding, which differs with the number of threads, exchanges none.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pixelsnail_infer.models.first_stage import FirstStage
from pixelsnail_infer.models.first_stage_config import FirstStageConfig
from pixelsnail_infer.models.vqvae import VqVae
from pixelsnail_infer.models.vqvae_config import VqVaeConfig

TWO = VqVaeConfig(shape=(32, 48), levels=(11, 13), channel=8, n_res_block=1, n_res_channel=4, embed_dim=4)
STAGE = FirstStageConfig(
    shape=(16, 24), levels=12, ch=32, widths=(32, 64), n_res_block=1, attention=(1,), z_channels=5, embed_dim=4
)
CONFIGS: dict[str, VqVaeConfig | FirstStageConfig] = {
    "two": TWO,
    "two_inplace": replace(TWO, relu_inplace=True, factor=2),
    "one": replace(TWO, levels=(9,), in_channel=1),
    "audio": replace(
        TWO, levels=(9,), in_channel=1, kernels=(4, 2, 6), suffix="_b", relu_inplace=True, values="log-mel"
    ),
    "stage": STAGE,
    "stage_conv": replace(STAGE, shortcut="conv", attention=(), mid_attention=False, resample_conv=False, channels=1),
}


def build(config: VqVaeConfig | FirstStageConfig) -> VqVae | FirstStage:
    torch.manual_seed(11)
    model = (VqVae(config) if isinstance(config, VqVaeConfig) else FirstStage(config)).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.uniform_(0.5, 1.5)
    low, high = (-11.0, 1.0) if config.image.values == "log-mel" else (-1.0, 1.0)
    cells = torch.rand(6, config.image.channels, config.shape[0] // 8, config.shape[1] // 8)
    images = low + (high - low) * cells.repeat_interleave(8, 2).repeat_interleave(8, 3)
    for level in range(len(config.codes)):
        vectors = model.encode(images)[1][level].permute(0, 2, 3, 1).flatten(0, 2)
        table = model.tables[level]
        table.copy_(apart(vectors, len(table)))
    return model


def apart(vectors: Tensor, count: int) -> Tensor:
    """So many of `vectors [n, D]`, each the farthest from those before it."""
    chosen = vectors[:1]
    while len(chosen) < count:
        farthest = torch.cdist(vectors, chosen).amin(1).argmax()
        chosen = torch.cat([chosen, vectors[farthest, None]])
    return chosen
