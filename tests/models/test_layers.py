"""The traps of the family, layer by layer: each right result is compared with a plain one, and with the wrong one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pixelsnail_infer.models.layers import (
    CausalAttention,
    CausalConv2d,
    GatedResBlock,
    WNConv2d,
    shift_down,
    shift_right,
    weight_norm,
)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(11)


def causal_by_hand(x: Tensor, layer: CausalConv2d, *, mask_first: bool) -> Tensor:
    """A masked convolution as sums over taps; `mask_first` says whether the mask goes on before the norm."""
    v, g, bias = layer.conv.conv.weight_v, layer.conv.conv.weight_g, layer.conv.conv.bias
    size = v.shape[-1]
    mask = torch.ones(size, size, dtype=v.dtype)
    mask[-1, size // 2 :] = 0
    normed = v * mask if mask_first else v
    weight = g * (v * mask) / normed.pow(2).sum(dim=(1, 2, 3), keepdim=True).sqrt()
    padded = F.pad(x, [size // 2, size // 2, size - 1, 0])
    out = bias.view(1, -1, 1, 1).expand(x.shape[0], -1, *x.shape[2:]).clone()
    for dy in range(size):
        for dx in range(size):
            window = padded[:, :, dy : dy + x.shape[2], dx : dx + x.shape[3]]
            out = out + torch.einsum("bihw,oi->bohw", window, weight[:, :, dy, dx])
    return out


@pytest.mark.parametrize("size", [3, 5])
def test_the_mask_goes_on_before_the_norm(size: int) -> None:
    layer = CausalConv2d(3, 4, (size, size), pad="causal").double()
    layer.conv.conv.weight_g.data.mul_(1.7)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(layer(x), causal_by_hand(x, layer, mask_first=True), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(layer(x), causal_by_hand(x, layer, mask_first=False), atol=1e-3)


def test_nothing_under_the_mask_matters_and_nothing_is_written() -> None:
    layer = CausalConv2d(3, 4, (3, 3), pad="causal")
    x = torch.randn(1, 3, 4, 4)
    before = layer(x)
    with torch.no_grad():
        layer.conv.conv.weight_v[:, :, -1, 1:] = 99.0
    torch.testing.assert_close(layer(x), before, rtol=0, atol=0)
    assert (layer.conv.conv.weight_v[:, :, -1, 1:] == 99.0).all()


def test_weight_norm_is_torchs() -> None:
    v, g = torch.randn(4, 3, 2, 2, dtype=torch.float64), torch.randn(4, 1, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(weight_norm(v, g), torch._weight_norm(v, g, 0), rtol=1e-14, atol=1e-14)
    v, g = v[:, :, 0, 0], g[:, :, 0, 0]
    torch.testing.assert_close(weight_norm(v, g), torch._weight_norm(v, g, 0), rtol=1e-14, atol=1e-14)


def test_borders_after_shifts_are_zero_and_not_the_bias() -> None:
    x = torch.randn(2, 3, 4, 5)
    down = CausalConv2d(3, 4, (2, 5), pad="down")
    right = CausalConv2d(3, 4, (3, 2), pad="downright")
    shifted_down, shifted_right = shift_down(down(x)), shift_right(right(x))
    assert (shifted_down[:, :, 0, :] == 0).all() and (shifted_right[:, :, :, 0] == 0).all()
    torch.testing.assert_close(shifted_down[:, :, 1:], down(x)[:, :, :-1])
    torch.testing.assert_close(shifted_right[:, :, :, 1:], right(x)[:, :, :, :-1])
    wrong = down(F.pad(x, [0, 0, 1, 0])[:, :, :-1])  # shifting the input instead leaves the bias in row 0
    assert not torch.allclose(wrong[:, :, 0], shifted_down[:, :, 0])


def test_padding_is_zero_after_the_activation() -> None:
    layer = WNConv2d(2, 2, 3, padding=1)
    x = torch.full((1, 2, 3, 3), -1.0)
    inside = F.conv2d(F.pad(x, [1] * 4), weight_norm(layer.conv.weight_v, layer.conv.weight_g), layer.conv.bias)
    torch.testing.assert_close(layer(x), inside)


def attention_by_hand(layer: CausalAttention, query: Tensor, key: Tensor) -> Tensor:
    """One position, one head at a time, over strictly earlier positions."""
    batch, _, height, width = key.shape
    q = layer.query(query.flatten(2).transpose(1, 2))
    k, v = (part(key.flatten(2).transpose(1, 2)) for part in (layer.key, layer.value))
    out = torch.zeros_like(q)
    size = q.shape[2] // layer.n_head
    for b in range(batch):
        for p in range(1, height * width):
            for head in range(layer.n_head):
                part = slice(head * size, (head + 1) * size)
                weights = torch.softmax(k[b, :p, part] @ q[b, p, part] / math.sqrt(size), dim=0)
                out[b, p, part] = weights @ v[b, :p, part]
    return out.transpose(1, 2).view(batch, -1, height, width)


def test_attention_is_strictly_causal_and_zero_at_position_0() -> None:
    layer = CausalAttention(5, 6, 8, n_head=2).double().eval()
    query, key = torch.randn(2, 5, 3, 4, dtype=torch.float64), torch.randn(2, 6, 3, 4, dtype=torch.float64)
    out = layer(query, key)
    assert (out[:, :, 0, 0] == 0).all()
    torch.testing.assert_close(out, attention_by_hand(layer, query, key), rtol=1e-12, atol=1e-12)
    first = layer.value(key.flatten(2).transpose(1, 2)).mean(dim=1)  # what a masked softmax would average
    assert first.abs().max() > 1e-3


def test_one_head_is_not_two_heads() -> None:
    layer = CausalAttention(5, 6, 8, n_head=2).double().eval()
    query, key = torch.randn(1, 5, 3, 4, dtype=torch.float64), torch.randn(1, 6, 3, 4, dtype=torch.float64)
    two = layer(query, key)
    layer.n_head = 1
    assert not torch.allclose(layer(query, key), two)


@pytest.mark.parametrize("inplace", [False, True])
def test_inplace_elu_adds_the_activated_input(inplace: bool) -> None:
    """The public code before July 2020, `nn.ELU(inplace=True)`, against the same block without it."""
    block = GatedResBlock(4, 5, 3, causal=True, condition_channel=2, elu_inplace=inplace).double().eval()
    x, condition = torch.randn(2, 4, 4, 4).double(), torch.randn(2, 2, 4, 4).double()
    ours = block(x.clone(), condition=condition)
    activation = torch.nn.ELU(inplace=inplace)
    mutated = x.clone()
    gated = block.conv2(activation(block.conv1(activation(mutated)))) + block.condition(condition)
    torch.testing.assert_close(ours, F.glu(gated, dim=1) + mutated)
    assert torch.equal(mutated, x) is not inplace


def test_the_input_is_not_changed() -> None:
    block = GatedResBlock(4, 5, 3, elu_inplace=True)
    x = torch.randn(1, 4, 3, 3)
    kept = x.clone()
    block(x)
    assert torch.equal(x, kept)


def test_the_auxiliary_input_is_activated_and_added_after_the_first_convolution() -> None:
    block = GatedResBlock(4, 5, 1, auxiliary_channel=3).eval()
    x, auxiliary = torch.randn(1, 4, 3, 3), torch.randn(1, 3, 3, 3)
    gated = block.conv2(F.elu(block.conv1(F.elu(x)) + block.aux_conv(F.elu(auxiliary))))
    torch.testing.assert_close(block(x, auxiliary), F.glu(gated, dim=1) + x)
