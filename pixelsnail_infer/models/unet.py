"""The denoising U-Net of improved-diffusion (Nichol and Dhariwal, 2021): an image and a time to what is noise in it.

Names and shapes of the parameters are those of openai/improved-diffusion's UNetModel and SuperResModel. What the time
and the label are worth is apart, in `projections`: it does not depend on the image, so many steps share one run.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.models.unet_config import GROUPS, UNetConfig
from pixelsnail_infer.models.unet_layers import Attention, Block, Downsample, Residual, TimeFeatures, Upsample

__all__ = ["UNet"]


class UNet(nn.Module):
    """The network; `config.diffusion` says what its output means."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        embedded = 4 * config.width
        self.time_features = TimeFeatures(config.width)
        self.time_embed = nn.Sequential(
            nn.Linear(config.width, embedded), nn.SiLU(), nn.Linear(embedded, embedded))
        if config.classes is not None:
            self.label_emb = nn.Embedding(config.classes, embedded)
        self.input_blocks, kept = self._down()
        width = config.widths[-1]
        self.middle_block = Block(self._residual(width, width), Attention(width, config.n_head),
                                  self._residual(width, width))
        self.output_blocks = self._up(kept)
        self.out = nn.Sequential(nn.GroupNorm(GROUPS, config.width * config.mult[0]), nn.SiLU(),
                                 nn.Conv2d(config.width, config.outputs, 3, padding=1))

    @property
    def told(self) -> int:
        """How many numbers the time and the label tell an image, for all residual layers together."""
        return sum(layer.told for layer in self._residuals())

    def projections(self, time: Tensor, label: Tensor | None = None) -> Tensor:
        """What every residual layer is told, `[B, told]`, of times `[B]`, as the network was trained to take them, and
        labels int64 `[B]`."""
        embedding = self.time_embed(self.time_features(time))
        if label is not None:
            embedding = embedding + self.label_emb(label)
        return torch.cat([layer.emb_layers(embedding) for layer in self._residuals()], dim=1)

    def denoise(self, x: Tensor, projections: Tensor, low_res: Tensor | None = None) -> Tensor:
        """What the network gives of images `[B, C, H, W]`: as many channels, or twice with a learned variance.

        `projections` is `[B, told]`; `low_res`, `[B, C, h, w]`, is the small picture of a super-resolution model.
        """
        layers = self._residuals()
        told = dict(zip(layers, projections.split([layer.told for layer in layers], dim=1), strict=True))
        if low_res is not None:
            large = F.interpolate(low_res, self.config.shape, mode="bilinear", align_corners=False)
            x = torch.cat([x, large], dim=1)
        kept: list[Tensor] = []
        for block in self.input_blocks:
            x = block(x, told)
            kept.append(x)
        x = self.middle_block(x, told)
        for block in self.output_blocks:
            x = block(torch.cat([x, kept.pop()], dim=1), told)
        result: Tensor = self.out(x)
        return result

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None, low_res: Tensor | None = None) -> Tensor:
        """`denoise` at times `[B]` with labels int64 `[B]`."""
        return self.denoise(x, self.projections(time, label), low_res)

    def _residuals(self) -> list[Residual]:
        """The residual layers in the order in which they run."""
        return [layer for layer in self.modules() if isinstance(layer, Residual)]

    def _residual(self, inputs: int, outputs: int) -> Residual:
        return Residual(inputs, outputs, 4 * self.config.width, self.config.scale_shift)

    def _attention(self, level: int, heads: int) -> list[nn.Module]:
        return [Attention(self.config.widths[level], heads)] if level in self.config.attention else []

    def _down(self) -> tuple[nn.ModuleList, list[int]]:
        """The blocks on the way down, and the channels of what each leaves for the way up."""
        config = self.config
        blocks, kept = [Block(nn.Conv2d(config.inputs, config.width, 3, padding=1))], [config.width]
        for level, width in enumerate(config.widths):
            for _ in range(config.n_res_block):
                blocks.append(Block(self._residual(kept[-1], width), *self._attention(level, config.n_head)))
                kept.append(width)
            if level + 1 < len(config.widths):
                blocks.append(Block(Downsample(width)))
                kept.append(width)
        return nn.ModuleList(blocks), kept

    def _up(self, kept: list[int]) -> nn.ModuleList:
        config, blocks, channels, kept = self.config, list[Block](), self.config.widths[-1], list(kept)
        for level, width in reversed(list(enumerate(config.widths))):
            for place in range(config.n_res_block + 1):
                last = place == config.n_res_block and level > 0
                blocks.append(Block(self._residual(channels + kept.pop(), width),
                                    *self._attention(level, config.heads_up),
                                    *([Upsample(width)] if last else [])))
                channels = width
        return nn.ModuleList(blocks)
