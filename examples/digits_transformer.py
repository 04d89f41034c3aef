"""A small transformer over the pixels of 8x8 digits, a class token in front: plain PyTorch, and no more than that.

`train_transformer.py` trains it; `examples/digits_transformer.pt` holds its weights. To draw from it:

    export-model examples/digits_transformer.pt transformer.onnx --shape 8x8 --levels 17 --condition label:class:10 \\
        --model examples/digits_transformer.py:DigitsTransformer
    pixelsnail-infer generate transformer.onnx -o digits.png --condition label=7
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DigitsTransformer(nn.Module):
    """Codes int64 [B, H, W] and labels int64 [B] -> logits [B, levels, H, W].

    The sequence is the class, then all pixels but the last, row by row; token p gives the prediction of pixel p.
    """

    def __init__(self, shape: tuple[int, int] = (8, 8), levels: int = 17, classes: int = 10, width: int = 96,
                 layers: int = 3, heads: int = 6, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = (shape[0], shape[1])
        self.label, self.pixel = nn.Embedding(classes, width), nn.Embedding(levels, width)
        self.row, self.column = nn.Embedding(shape[0], width), nn.Embedding(shape[1], width)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.logits = nn.Linear(width, levels)

    def forward(self, codes: Tensor, label: Tensor) -> Tensor:
        height, width = self.shape
        before = self.pixel(codes.flatten(1))[:, :-1]
        x = torch.cat([self.label(label)[:, None], before], 1)  # [B, P, width]
        x = x + (self.row.weight[:, None] + self.column.weight).flatten(0, 1)
        mask = nn.Transformer.generate_square_subsequent_mask(height * width, device=x.device, dtype=x.dtype)
        y = self.logits(self.layers(x, mask, is_causal=True))
        return y.transpose(1, 2).unflatten(2, self.shape)
