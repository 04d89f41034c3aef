"""The VQ first stages of CompVis/latent-diffusion and CompVis/taming-transformers: images to codes and back.

After Esser et al. 2021, "Taming Transformers for High-Resolution Image Synthesis". Shapes: `B` images, `C` channels,
`D` numbers of a code's vector, `h w` codes.
"""

from __future__ import annotations

from torch import Tensor, nn

from pixelsnail_infer.models.first_stage_config import FirstStageConfig
from pixelsnail_infer.models.first_stage_layers import (
    AttnBlock,
    Downsample,
    Middle,
    ResnetBlock,
    Upsample,
    norm,
    swish,
)
from pixelsnail_infer.models.vqvae_layers import nearest_codes

__all__ = ["FirstStage"]


class Resolution(nn.Module):
    """Residual blocks, each followed by attention where the resolution has it, and a resampling or none."""

    def __init__(
        self, config: FirstStageConfig, level: int, inputs: int, count: int, resample: tuple[str, nn.Module] | None
    ) -> None:
        super().__init__()
        width = config.widths[level]
        self.block = nn.ModuleList(
            ResnetBlock(inputs if k == 0 else width, width, config.shortcut) for k in range(count)
        )
        attended = count if level in config.attention else 0
        self.attn = nn.ModuleList(AttnBlock(width) for _ in range(attended))
        self.resample = None if resample is None else resample[0]
        if resample is not None:
            self.add_module(*resample)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, h, w] to [B, width, h, w] of the next resolution."""
        for k, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[k](x)
        return x if self.resample is None else self.get_submodule(self.resample)(x)


class Encoder(nn.Module):
    """Images to features of the codes' grid."""

    def __init__(self, config: FirstStageConfig) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = nn.Conv2d(config.channels, config.ch, 3, padding=1)
        self.down = nn.ModuleList()
        for level, width in enumerate(widths):
            last = level == len(widths) - 1
            smaller = None if last else ("downsample", Downsample(width, config.resample_conv))
            inputs = widths[level - 1] if level else config.ch
            self.down.append(Resolution(config, level, inputs, config.n_res_block, smaller))
        self.mid = Middle(widths[-1], config.mid_attention, config.shortcut)
        self.norm_out = norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, z, h, w]."""
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(swish(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """Features of the codes' grid to images. `up` is indexed by resolution, and run from the last to the first."""

    def __init__(self, config: FirstStageConfig) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = nn.Conv2d(config.z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], config.mid_attention, config.shortcut)
        self.up = nn.ModuleList()
        for level, width in enumerate(widths):
            larger = ("upsample", Upsample(width, config.resample_conv)) if level else None
            inputs = widths[min(level + 1, len(widths) - 1)]
            self.up.append(Resolution(config, level, inputs, config.n_res_block + 1, larger))
        self.norm_out = norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], config.channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, z, h, w] to [B, C, H, W]."""
        x = self.mid(self.conv_in(x))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(swish(self.norm_out(x)))


class Quantizer(nn.Module):
    """The code book, `embedding` [n, D]."""

    def __init__(self, config: FirstStageConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.levels, config.embed_dim)


class FirstStage(nn.Module):
    """The network that `config` describes; parameters are named as in the public files.

    Nothing but group norms and attention depends on the image's size; any that `config.factor` divides is taken.
    Thread-safe for concurrent eval-mode calls.
    """

    def __init__(self, config: FirstStageConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quantize = Quantizer(config)
        self.quant_conv = nn.Conv2d(config.z_channels, config.embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(config.embed_dim, config.z_channels, 1)

    @property
    def tables(self) -> tuple[Tensor, ...]:
        """The code book of the one level, [n, D]."""
        return (self.quantize.embedding.weight,)

    def decode(self, *codes: Tensor) -> Tensor:
        """Images [B, C, H, W] of the one level's codes, int64 [B, h, w]."""
        vectors = self.quantize.embedding(codes[0]).permute(0, 3, 1, 2)  # [B, D, h, w]
        return self.decoder(self.post_quant_conv(vectors))

    def encode(self, image: Tensor, given: tuple[Tensor, ...] = ()) -> tuple[list[Tensor], list[Tensor]]:
        """Codes int64 [B, h, w] of images [B, C, H, W], and the vectors [B, D, h, w] that they replace.

        Codes that are `given` are taken in place of the nearest ones.
        """
        vectors = self.quant_conv(self.encoder(image))
        return [*given] or [nearest_codes(vectors, self.tables[0])], [vectors]
