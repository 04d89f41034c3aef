"""Layers of random networks: every one takes maps [B, C, H, W] (or vectors [B, C, 1, 1]) and gives one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..zoo import Shape, conv

ACTS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x, "tanh": torch.tanh, "elu": F.elu, "relu": F.relu, "sigmoid": torch.sigmoid,
    "clamp": lambda x: x.clamp(-0.8, 0.7), "elu in place": lambda x: F.elu(x.clone(), inplace=True),
    "square": lambda x: torch.tanh(x) ** 2, "where": lambda x: torch.where(x > 0.1, x, -0.5 * x),
}


@dataclass(frozen=True)
class Reach:
    """A kernel of `rows` x `columns` taps. The pixel itself is column `at` of the last row, or `down` rows below it."""

    rows: int
    columns: int
    at: int
    down: int = 0
    dilation: tuple[int, int] = (1, 1)

    @property
    def pads(self) -> tuple[int, int, int]:
        """Left, right, top."""
        dy, dx = self.dilation
        return self.at * dx, (self.columns - 1 - self.at) * dx, (self.rows - 1) * dy + self.down


class Kernel(nn.Module):
    """A convolution; `seen [rows, columns]` says which taps may be other than 0. Padded by hand, before or after the
    activation, with any border; or by the convolution itself on all sides, and cropped."""

    seen: Tensor

    def __init__(self, into: int, out: int, reach: Reach, seen: Tensor, *, style: str = "pad", act: str = "tanh",
                 border: float = 0.0, bias: bool = True, groups: int = 1, mask: str = "once") -> None:
        super().__init__()
        self.reach, self.style, self.act, self.border, self.mask = reach, style, ACTS[act], border, mask
        padding = (reach.pads[2], max(reach.pads[:2])) if style == "same" else 0
        self.conv = conv(into, out, (reach.rows, reach.columns), dilation=reach.dilation, bias=bias, groups=groups,
                         padding=padding)
        self.register_buffer("seen", seen.to(self.conv.weight.dtype))
        if mask == "once":
            with torch.no_grad():
                self.conv.weight *= self.seen

    def forward(self, x: Tensor) -> Tensor:
        (left, right, top), (h, w) = self.reach.pads, x.shape[2:]
        if self.mask == "data":
            self.conv.weight.data *= self.seen
        if self.style == "same":
            side = max(left, right) - left
            return self._conv(self.act(x))[:, :, :h, side:side + w]
        pads = [left, right, top, 0]
        x = F.pad(self.act(x), pads, value=self.border) if self.style == "pad" else \
            self.act(F.pad(x, pads, value=self.border))
        return self._conv(x)[:, :, :h]

    def _conv(self, x: Tensor) -> Tensor:
        if self.mask != "product":
            return self.conv(x)
        c = self.conv
        return F.conv2d(x, c.weight * self.seen, c.bias, c.stride, c.padding, c.dilation, c.groups)


class Valid(nn.Module):
    """Padded once, then two convolutions with a bias and an activation between them: what is outside differs from
    channel to channel."""

    def __init__(self, into: int, out: int, reach: Reach, second: int, border: float, act: str) -> None:
        super().__init__()
        self.a, self.b = conv(into, out, (reach.rows, reach.columns)), conv(out, out, second)
        left, right, top = reach.pads
        self.pads, self.border, self.act = [left + second - 1, right, top + second - 1, 0], border, ACTS[act]
        with torch.no_grad():
            self.a.weight[:, :, -1, reach.at + 1:] = 0

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.act(self.a(F.pad(x, self.pads, value=self.border))))


class Shift(nn.Module):
    """What stood `dy` rows above and `dx` columns to the left (negative: below, right)."""

    def __init__(self, dy: int, dx: int, border: float, style: str) -> None:
        super().__init__()
        self.by, self.border, self.style = (dy, dx), border, style

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        dy, dx = self.by
        if self.style == "cat" and dy >= 0 and dx >= 0:
            if dy:
                rows = torch.full_like(x[:, :, :1], self.border).expand(-1, -1, min(dy, h), -1)
                x = torch.cat([rows, x[:, :, : max(h - dy, 0)]], 2)
            if dx:
                columns = torch.full_like(x[:, :, :, :1], self.border).expand(-1, -1, -1, min(dx, w))
                x = torch.cat([columns, x[:, :, :, : max(w - dx, 0)]], 3)
            return x
        pads = [max(dx, 0), max(-dx, 0), max(dy, 0), max(-dy, 0)]
        x = F.pad(x, pads, value=self.border)
        return x[:, :, max(-dy, 0):max(-dy, 0) + h, max(-dx, 0):max(-dx, 0) + w]


class Pointwise(nn.Module):
    """One value at one position: activations, gates, norms over channels, linear layers, positional constants."""

    HOW = ("act", "linear", "gate", "concat_elu", "batch norm", "layer norm", "softmax", "rows and columns", "scale",
           "sequence", "heads", "zero rows", "reduce")

    def __init__(self, how: str, width: int, out: int, act: str, shape: Shape) -> None:
        super().__init__()
        self.how, self.act = how, ACTS[act]
        wide = {"gate": (width, 2 * out), "concat_elu": (2 * width, out), "rows and columns": (width + 2, out)}
        into, outputs = wide.get(how, (width, out))
        self.mix = nn.Linear(into, outputs) if how in ("linear", "sequence") else conv(into, outputs)
        norms = {"batch norm": nn.BatchNorm2d, "layer norm": nn.LayerNorm}
        self.norm = norms[how](width) if how in norms else None
        if isinstance(self.norm, nn.BatchNorm2d):
            for part in (self.norm.running_mean, self.norm.bias, self.norm.weight):
                nn.init.normal_(part)  # type: ignore[arg-type]
            nn.init.uniform_(self.norm.running_var, 0.5, 2.0)  # type: ignore[arg-type]
        rows, columns = (torch.arange(n) / n - 0.4 for n in shape)
        self.register_buffer("places", torch.stack([rows[:, None].expand(shape), columns.expand(shape)])[None])
        self.register_buffer("factor", torch.randn(1, width, *shape))

    def forward(self, x: Tensor) -> Tensor:
        shape = (x.shape[0], -1, *x.shape[2:])
        if self.how == "act":
            return self.mix(self.act(x))
        if self.how == "linear":
            return self.mix(self.act(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if self.how == "sequence":
            return self.act(self.mix(x.flatten(2).transpose(1, 2))).transpose(1, 2).reshape(shape)
        if self.how == "gate":
            return F.glu(self.mix(self.act(x)), 1)
        if self.how == "concat_elu":
            return self.mix(F.elu(torch.cat([x, -x], 1)))
        if self.how == "batch norm":
            return self.mix(self.act(self.norm(x)))  # type: ignore[misc]
        if self.how == "layer norm":
            return self.mix(self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))  # type: ignore[misc]
        if self.how == "softmax":
            return self.mix(torch.softmax(x, 1) - torch.log_softmax(0.1 * x, 1))
        if self.how == "rows and columns":
            return self.mix(torch.cat([x, self.places.expand(x.shape[0], -1, -1, -1)], 1))
        if self.how == "scale":
            return self.mix(self.act(x * self.factor + self.places[:, :1]))
        if self.how == "heads":
            return self.mix(self.act(x).reshape(x.shape[0], 1, x.shape[1], -1).transpose(1, 2).reshape(shape))
        if self.how == "zero rows":
            return self.mix(x * (self.places[:, :1] > -0.4) + (self.places[:, 1:] > 0))
        return self.mix(x) + torch.tanh(x.mean(1, keepdim=True) * x.amax(1, keepdim=True)) * x.sum(1, keepdim=True)


class Join(nn.Module):
    """Two values at one position; either may be a vector."""

    HOW = ("add", "multiply", "gate", "cat", "modulate", "greater")

    def __init__(self, how: str, widths: tuple[int, int], out: int) -> None:
        super().__init__()
        self.how = how
        self.a, self.b = conv(widths[0], out), conv(widths[1], 2 * out if how == "modulate" else out)
        self.mix = conv(2 * out, out)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        a, b = self.a(x), self.b(y)
        if self.how == "add":
            return torch.tanh(a) + b
        if self.how == "multiply":
            return a * b
        if self.how == "gate":
            return torch.tanh(a) * torch.sigmoid(b)
        if self.how == "greater":
            return torch.maximum(a, b)
        if self.how == "modulate":
            scale, offset = b.chunk(2, 1)
            return a * (1 + scale) + offset
        shape = tuple(max(m, n) for m, n in zip(a.shape[2:], b.shape[2:], strict=True))
        return self.mix(torch.cat([a.expand(-1, -1, *shape), b.expand(-1, -1, *shape)], 1))


class Attend(nn.Module):
    """Attention of queries over keys and values, written in one of the ways of public code. `mask` [P, keys]: may be
    seen; `weigh` makes weights of scores; `pool` takes maxima of blocks of keys and values first."""

    FORMS = ("matmul", "transposed", "einsum", "shared")
    mask: Tensor

    def __init__(self, form: str, mask: Tensor, weigh: Callable[[Tensor, Tensor], Tensor], widths: tuple[int, int],
                 heads: int, key: int, value: int, pool: tuple[int, int] | None, bias: bool) -> None:
        super().__init__()
        self.form, self.weigh, self.pool = form, weigh, pool
        self.heads, self.value = heads, heads * value
        kept = 1 if form == "shared" else heads  # heads of the keys and values
        self.q = conv(widths[0], heads * key)
        self.k, self.v = conv(widths[1], kept * key), conv(widths[1], kept * value)
        self.kept = kept
        self.register_buffer("mask", mask)
        self.register_buffer("bias", torch.randn(heads, *mask.shape) if bias else torch.zeros(()))

    def parts(self, x: Tensor, heads: int) -> Tensor:
        """[B, K*d, h, w] -> [B, K, keys, d]."""
        return x.reshape(x.shape[0], heads, -1, math.prod(x.shape[2:])).transpose(2, 3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        k, v = self.k(y), self.v(y)
        if self.pool is not None:
            k, v = F.max_pool2d(k, self.pool), F.max_pool2d(v, self.pool)
        q, k, v = self.parts(self.q(x), self.heads), self.parts(k, self.kept), self.parts(v, self.kept)
        if self.form == "einsum":
            weights = self.weigh(torch.einsum("bkqd,bkpd->bkqp", q, k) + self.bias, self.mask)
            out = torch.einsum("bkqp,bkpd->bkqd", weights, v)
        elif self.form == "transposed":
            scores = (k @ q.transpose(2, 3)).transpose(2, 3)  # keys first, then as usual
            weights = self.weigh(scores + self.bias, self.mask).transpose(2, 3)
            out = (v.transpose(2, 3) @ weights).transpose(2, 3)
        else:
            out = self.weigh(q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]) + self.bias, self.mask) @ v
        return out.transpose(2, 3).reshape(x.shape[0], self.value, *x.shape[2:])
