"""PixelCNN++ in NumPy, channels last and in its own order of steps, from its published formulas.

Written against the paper and the public TensorFlow code, without this project's layers: windows and blocks by index.
Maps are [B, H, W, C], float64; variables have the original's names and layouts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.models.pixelcnnpp import PixelCNNppConfig

Array = NDArray[np.float64]


class Original:
    """Takes its variables one after the other, as the original makes them."""

    def __init__(self, config: PixelCNNppConfig, values: dict[str, Array], h: Array | None) -> None:
        self.config, self.values, self.h = config, values, h
        self.counts: dict[str, int] = {}

    def layer(self, kind: str) -> str:
        self.counts[kind] = self.counts.get(kind, -1) + 1
        return f"{kind}_{self.counts[kind]}"

    def conv(self, x: Array, left: int, stride: int = 1) -> Array:
        """The window ends at the row, and begins `left` columns before; what is outside of the image is 0."""
        name = self.layer("conv2d")
        V, g, b = (self.values[f"{name}/{part}"] for part in "Vgb")
        weight = g * V / np.sqrt((V**2).sum(axis=(0, 1, 2)))
        rows, columns = V.shape[:2]
        padded = np.pad(x, ((0, 0), (rows - 1, 0), (left, columns - 1 - left), (0, 0)))
        out = np.tile(b, (len(x), x.shape[1] // stride, x.shape[2] // stride, 1))
        for i, j in np.ndindex(out.shape[1:3]):
            window = padded[:, i * stride : i * stride + rows, j * stride : j * stride + columns]
            out[:, i, j] += np.einsum("nhwc,hwcd->nd", window, weight)
        return out

    def deconv(self, x: Array, left: int) -> Array:
        """Every pixel is spread over rows from twice its own on, and columns from `left` before twice its own."""
        name = self.layer("deconv2d")
        V, g, b = (self.values[f"{name}/{part}"] for part in "Vgb")
        weight = g[:, None] * V / np.sqrt((V**2).sum(axis=(0, 1, 3), keepdims=True)[0])
        out = np.tile(b, (len(x), 2 * x.shape[1], 2 * x.shape[2], 1))
        for (i, j), (k, m) in ((p, t) for p in np.ndindex(x.shape[1:3]) for t in np.ndindex(V.shape[:2])):
            row, column = 2 * i + k, 2 * j + m - left
            if row < out.shape[1] and 0 <= column < out.shape[2]:
                out[:, row, column] += x[:, i, j] @ weight[k, m].T
        return out

    def dense(self, x: Array) -> Array:
        name = self.layer("dense")
        V, g, b = (self.values[f"{name}/{part}"] for part in "Vgb")
        V = V.reshape(V.shape[-2:])
        return x @ (g * V / np.sqrt((V**2).sum(axis=0))) + b

    def active(self, x: Array) -> Array:
        kind = self.config.resnet_nonlinearity
        return np.maximum(x, 0) if kind == "relu" else elu(np.concatenate([x, -x], -1) if kind == "concat_elu" else x)

    def gated(self, x: Array, left: int, a: Array | None = None) -> Array:
        c = self.conv(self.active(x), left)
        if a is not None:
            c = c + self.dense(self.active(a))
        c = self.conv(self.active(c), left)
        if self.h is not None:
            c = c + (self.h @ self.values[self.layer("conditional_weights") + "/hw"])[:, None, None]
        value, gate = np.split(c, 2, axis=-1)
        return x + value / (1 + np.exp(-gate))

    def __call__(self, pixels: Array) -> Array:
        x = np.concatenate([pixels, np.ones_like(pixels[..., :1])], axis=-1)
        us = [moved(self.conv(x, 1), 1, 0)]
        uls = [moved(self.conv(x, 1), 1, 0) + moved(self.conv(x, 0), 0, 1)]
        for stage in range(3):
            if stage:
                us.append(self.conv(us[-1], 1, stride=2))
                uls.append(self.conv(uls[-1], 1, stride=2))
            for _ in range(self.config.nr_resnet):
                us.append(self.gated(us[-1], 1))
                uls.append(self.gated(uls[-1], 1, us[-1]))
        u, ul = us.pop(), uls.pop()
        for stage in range(3):
            if stage:
                u, ul = self.deconv(u, 1), self.deconv(ul, 0)
            for _ in range(self.config.nr_resnet + (stage > 0)):
                u = self.gated(u, 1, us.pop())
                ul = self.gated(ul, 1, np.concatenate([u, uls.pop()], axis=-1))
        assert not us and not uls
        return self.dense(elu(ul))


def elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def moved(x: Array, down: int, right: int) -> Array:
    return np.pad(x, ((0, 0), (down, 0), (right, 0), (0, 0)))[:, : x.shape[1], : x.shape[2]]
