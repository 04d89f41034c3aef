"""The original PixelSNAIL in NumPy, channels last and in its own order of steps, from its published formulas.

Written against the paper and the public TensorFlow code, without a look at this project's layers: variables are taken
one after the other from a list, as the original makes them. Maps are [B, H, W, C], float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.models import SnailConfig

Array = NDArray[np.float64]


def elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def moved(x: Array, down: int, right: int) -> Array:
    """x with its content moved, zeros where nothing comes from."""
    out = np.roll(x, (down, right), axis=(1, 2))
    out[:, :down] = 0
    if right > 0:
        out[:, :, :right] = 0
    elif right < 0:
        out[:, :, right:] = 0
    return out


@dataclass
class Original:
    """One network; `variables` gives (V, g, b) or hw in the original's order, V as [h, w, in, out]."""

    config: SnailConfig
    variables: Iterator[dict[str, Array]]

    def weighted(self, x: Array, left: int) -> Array:
        """A convolution whose window ends at the current row, `left` columns to the left of the current one."""
        layer = next(self.variables)
        v, g, b = layer["V"], layer["g"], layer["b"]
        weight = g * v / np.sqrt((v**2).sum(axis=(0, 1, 2)))
        rows, columns = v.shape[:2]
        out = np.broadcast_to(b, (*x.shape[:3], len(b))).copy()
        for i in range(rows):
            for j in range(columns):
                out += moved(x, rows - 1 - i, left - j) @ weight[i, j]
        return out

    def nin(self, x: Array) -> Array:
        return self.weighted(x, 0)

    def shift_nin(self, x: Array) -> Array:
        a, b, c, _ = np.split(x, 4, axis=3)
        return self.nin(np.concatenate([moved(a, 0, 1), moved(b, 1, 1), moved(c, 1, 0), moved(b, 1, -1)], axis=3))

    def activation(self, x: Array) -> Array:
        if self.config.nonlinearity == "concat_elu":
            return elu(np.concatenate([x, -x], axis=3))
        return elu(x) if self.config.nonlinearity == "elu" else np.maximum(x, 0)

    def gated(self, x: Array, h: Array | None, *, wide: bool, auxiliary: Array | None = None) -> Array:
        def conv(value: Array) -> Array:
            if not wide:
                return self.nin(value)
            return self.shift_nin(value) if self.config.convolution == "shift" else self.weighted(value, 1)

        out = conv(self.activation(x))
        if auxiliary is not None:
            out = out + self.nin(self.activation(auxiliary))
        out = conv(self.activation(out))
        if h is not None:
            out = out + (h @ next(self.variables)["hw"])[:, None, None, :]
        value, gate = np.split(out, 2, axis=3)
        return x + value * sigmoid(gate)

    def attention(self, key: Array, value: Array, query: Array) -> Array:
        """Position by position, block by block; 2×2 blocks count once all of them is past."""
        step = self.config.att_downsample
        batch, height, width, _ = query.shape
        out = np.zeros((batch, height, width, value.shape[3]))
        for n in range(batch):
            for i in range(height):
                for j in range(width):
                    dots, values = [], []
                    for top in range(0, height, step):
                        for left in range(0, width, step):
                            if (top + step - 1) * width + left + step - 1 < i * width + j:
                                block = np.s_[n, top : top + step, left : left + step]
                                dots.append(query[n, i, j] @ key[block].max(axis=(0, 1)))
                                values.append(value[block].max(axis=(0, 1)))
                    if dots:
                        weight = np.exp((np.array(dots) - max(dots)) / np.sqrt(key.shape[3]))
                        out[n, i, j] = weight @ np.array(values) / (weight.sum() + 1e-6)
        return out

    def __call__(self, x: Array, h: Array | None) -> Array:
        """x [B, H, W, C] in [-1, 1], h [B, K] -> [B, H, W, n_params]."""
        batch, height, width, channels = x.shape
        rows, columns = ((np.arange(n) - n / 2) / n for n in (height, width))
        row = np.broadcast_to(rows.astype(np.float32)[:, None, None], x.shape)  # rounded as the original's are
        column = np.broadcast_to(columns.astype(np.float32)[:, None], x.shape)
        padded = np.concatenate([x, np.ones((batch, height, width, 1))], axis=3)
        if self.config.convolution == "shift":
            ul = self.shift_nin(padded)
        else:
            ul = moved(self.weighted(padded, 1), 1, 0)
            ul = ul + moved(self.weighted(padded, 0), 0, 1)
        for _ in range(self.config.attn_rep):
            for _ in range(self.config.nr_resnet):
                ul = self.gated(ul, h, wide=True)
            content = self.nin(self.gated(np.concatenate([x, ul, row, column], axis=3), h, wide=False))
            query = self.nin(self.gated(np.concatenate([ul, row, column], axis=3), h, wide=False))
            keys = query.shape[3]
            mixed = self.attention(content[..., :keys], content[..., keys:], query)
            ul = self.gated(ul, h, wide=False, auxiliary=mixed)
        return self.nin(elu(ul))
