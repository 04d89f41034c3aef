"""pixel_models' PixelSNAIL: its leak, the approximation that mends it, and the published formulas by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pixelsnail_infer.errors import ModelError, RequestError
from pixelsnail_infer.models.kamen import Kamen, KamenConfig
from pixelsnail_infer.models.mixture import unpack

SMALL = KamenConfig(
    shape=(4, 5), n_channels=4, n_res_layers=1, attn_n_layers=2, attn_nh=2, attn_dq=4, attn_dv=6, n_logistic_mix=2,
    approximate_first_position=True,
)  # fmt: skip
CLASSES: dict[str, Any] = {"n_cond_classes": 3, "condition": "vector"}


def build(config: KamenConfig) -> Kamen:
    torch.manual_seed(6)
    return Kamen(config).double().eval()


def pixels_of(config: KamenConfig, batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.rand(batch, config.channels, *config.shape, generator=generator, dtype=torch.float64) * 2 - 1


def reach(model: Kamen, pixels: Tensor, **conditions: Tensor) -> Tensor:
    """bool [P, P]: whether changing the row's pixel moves the column's prediction."""
    base, width = model(pixels, **conditions), pixels.shape[3]
    result = []
    for p in range(pixels[0, 0].numel()):
        changed = pixels.clone()
        changed[:, :, p // width, p % width] += 0.25
        result.append((model(changed, **conditions) - base).abs().amax(dim=(0, 1)).flatten() > 0)
    return torch.stack(result)


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 3])
def test_the_leak_and_its_mending(channels: Any) -> None:
    config = replace(SMALL, channels=channels)
    pixels = pixels_of(config, 2)
    assert not reach(build(config), pixels).tril().any()
    leaking = reach(build(replace(config, approximate_first_position=False)), pixels)
    assert leaking[:-1, 0].all()  # the last pixel alone reaches no key


def by_hand(model: Kamen, pixels: Tensor, classes: Tensor) -> Tensor:
    """The public code's forward from the state dict, in its own layout of the output, with the approximation."""
    state, config = model.state_dict(), model.config
    batch, colours, height, width = pixels.shape

    def wn(name: str, x: Tensor, pad: list[int]) -> Tensor:
        v, g = state[name + ".weight_v"], state[name + ".weight_g"]
        weight = g * v / v.pow(2).sum(dim=(1, 2, 3), keepdim=True).sqrt()
        return F.conv2d(F.pad(x, pad), weight, state[name + ".bias"])

    def both(x: Tensor) -> Tensor:
        return F.elu(torch.cat([x, -x], dim=1))

    def gated(name: str, x: Tensor, pad: int, a: Tensor | None = None, h: Tensor | None = None) -> Tensor:
        out = wn(name + ".c1", both(x), [pad, 0, pad, 0])
        if a is not None:
            out = out + wn(name + ".c1c", both(a), [0] * 4)
        out = wn(name + ".c2", both(out), [pad, 0, pad, 0])
        if h is not None:
            out = out + F.linear(h, state[name + ".proj_h.weight"], state[name + ".proj_h.bias"])[:, :, None, None]
        a_, b_ = out.chunk(2, dim=1)
        return x + a_ * torch.sigmoid(b_)

    x = torch.cat([pixels, torch.ones_like(pixels[:, :1])], dim=1)
    above, left = wn("ul_input_d", x, [1, 1, 0, 0]), wn("ul_input_dr", x, [0, 0, 1, 0])
    ul = F.pad(above, [0, 0, 1, 0])[:, :, :-1] + F.pad(left, [1, 0])[..., :-1]
    rows = ((torch.arange(height).double() - height / 2) / 2).view(1, 1, -1, 1).expand(batch, colours, height, width)
    columns = ((torch.arange(width).double() - width / 2) / 2).view(1, 1, 1, -1).expand(batch, colours, height, width)
    seen = torch.cat([rows, columns], dim=1)
    for n in range(config.attn_n_layers):
        block, start = f"ul_modules.{n}", ul
        for layer in range(config.n_res_layers):
            ul = gated(f"{block}.input_gated_resnet.{layer}", ul, 1, h=classes)
        kv = wn(f"{block}.in_proj_kv.1", gated(f"{block}.in_proj_kv.0", torch.cat([start, ul, seen], 1), 0), [0] * 4)
        q = wn(f"{block}.in_proj_q.1", gated(f"{block}.in_proj_q.0", torch.cat([ul, seen], 1), 0), [0] * 4)
        k, v = kv.flatten(2).split([config.attn_dq, config.attn_dv], dim=1)
        heads, positions = config.attn_nh, height * width
        mixed = torch.zeros(batch, heads, config.attn_dv // heads, positions, dtype=torch.float64)
        qs, ks, vs = (t.reshape(batch, heads, -1, positions) for t in (q, k, v))
        for p in range(1, positions):
            dots = (qs[..., p, None] * ks[..., :p]).sum(dim=2) / (config.attn_dq // heads) ** 0.5
            mixed[..., p] = (vs[..., :p] * dots.softmax(dim=-1)[:, :, None]).sum(dim=3)
        ul = gated(f"{block}.out_proj", ul, 0, a=mixed.reshape(batch, -1, height, width))
    return wn("output_conv", F.elu(ul), [0] * 4)


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 3])
def test_equals_the_published_formulas(channels: Any) -> None:
    config = replace(SMALL, channels=channels, **CLASSES)
    model, pixels = build(config), pixels_of(config, 2)
    classes = torch.rand(2, 3, dtype=torch.float64)
    theirs, mixtures = by_hand(model, pixels, classes), config.n_logistic_mix
    ours = unpack(model(pixels, h=classes), channels)
    torch.testing.assert_close(ours.logits, theirs[:, :mixtures], rtol=0, atol=1e-12)
    kinds = theirs[:, mixtures:].reshape(2, 3, mixtures, channels, *config.shape).transpose(2, 3)
    torch.testing.assert_close(ours.means, kinds[:, 0], rtol=0, atol=1e-12)
    torch.testing.assert_close(ours.log_scales, kinds[:, 1].clamp_min(-7), rtol=0, atol=1e-12)
    if channels == 3:
        torch.testing.assert_close(ours.coefficients, torch.tanh(kinds[:, 2]), rtol=0, atol=1e-12)


@torch.no_grad()
def test_a_label_is_a_hard_class_vector_and_images_are_independent() -> None:
    config = replace(SMALL, **CLASSES)
    soft, hard = build(config), build(replace(config, condition="label"))
    pixels, labels = pixels_of(config, 3), torch.tensor([2, 0, 1])
    together = hard(pixels, label=labels)
    torch.testing.assert_close(together, soft(pixels, h=F.one_hot(labels, 3).double()), rtol=0, atol=0)
    torch.testing.assert_close(hard(pixels[1:2], label=labels[1:2]), together[1:2], rtol=0, atol=1e-12)


def test_refuses() -> None:
    for wrong in ({"attn_nh": 3}, {"channels": 2}, {"condition": "label"}, {"n_cond_classes": 2}, {"n_bits": 0}):
        with pytest.raises(ModelError):
            replace(SMALL, **wrong)  # type: ignore[arg-type]
    model, pixels = build(SMALL), pixels_of(SMALL, 1)
    for bad, given in ((pixels[:, :1], {}), (pixels.long(), {}), (pixels, {"h": pixels})):
        with pytest.raises(RequestError):
            model(bad, **given)
