"""First stages against a transcription of their formulas that reads the weights by their public names."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.models.first_stage import FirstStage
from pixelsnail_infer.models.first_stage_config import FirstStageConfig

State = dict[str, Tensor]
SMALL = FirstStageConfig(
    shape=(8, 12), levels=10, ch=32, widths=(32, 64), n_res_block=1, attention=(1,), z_channels=5, embed_dim=4
)
CONFIGS = {
    "attention": SMALL,
    "conv_shortcut": replace(SMALL, shortcut="conv", attention=(), ch=64),
    "no_attention": replace(SMALL, attention=(), mid_attention=False, n_res_block=2),
    "plain_resampling": replace(SMALL, resample_conv=False, channels=1, widths=(64, 32, 64), attention=(0, 2)),
    "one_resolution": replace(SMALL, widths=(32,), attention=()),
}


@pytest.fixture(params=list(CONFIGS))
def config(request: pytest.FixtureRequest) -> FirstStageConfig:
    return CONFIGS[request.param]


def build(config: FirstStageConfig) -> FirstStage:
    torch.manual_seed(6)
    model = FirstStage(config).double().eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.uniform_(-1, 2)  # ones and zeros would hide a mistake
    return model


def conv(state: State, name: str, x: Tensor, **how: int) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **how)


def norm(state: State, name: str, x: Tensor) -> Tensor:
    """Each of 32 groups of channels to mean 0 and variance 1, per image; then scale and shift per channel."""
    out = torch.empty_like(x)
    size = x.shape[1] // 32
    for b in range(len(x)):
        for start in range(0, x.shape[1], size):
            group = x[b, start : start + size]
            spread = ((group - group.mean()) ** 2).mean()
            out[b, start : start + size] = (group - group.mean()) / (spread + 1e-6) ** 0.5
    return out * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]


def active(state: State, name: str, x: Tensor) -> Tensor:
    x = norm(state, name, x)
    return x / (1 + torch.exp(-x))


def resnet(state: State, name: str, x: Tensor) -> Tensor:
    out = conv(state, f"{name}.conv1", active(state, f"{name}.norm1", x), padding=1)
    out = conv(state, f"{name}.conv2", active(state, f"{name}.norm2", out), padding=1)
    if f"{name}.nin_shortcut.weight" in state:
        x = conv(state, f"{name}.nin_shortcut", x)
    elif f"{name}.conv_shortcut.weight" in state:
        x = conv(state, f"{name}.conv_shortcut", x, padding=1)
    return x + out


def attention(state: State, name: str, x: Tensor) -> Tensor:
    normed = norm(state, f"{name}.norm", x)
    query, key, value = (conv(state, f"{name}.{part}", normed) for part in "qkv")
    mixed = torch.empty_like(x)
    for b in range(len(x)):
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                scores = (query[b, :, i, j, None, None] * key[b]).sum(0) / x.shape[1] ** 0.5  # [h, w]
                share = torch.exp(scores - scores.max())
                mixed[b, :, i, j] = (value[b] * share / share.sum()).sum((1, 2))
    return x + conv(state, f"{name}.proj_out", mixed)


def resolution(state: State, name: str, x: Tensor) -> Tensor:
    k = 0
    while f"{name}.block.{k}.conv1.weight" in state:
        x = resnet(state, f"{name}.block.{k}", x)
        x = attention(state, f"{name}.attn.{k}", x) if f"{name}.attn.{k}.q.weight" in state else x
        k += 1
    return x


def middle(state: State, name: str, x: Tensor) -> Tensor:
    x = resnet(state, f"{name}.block_1", x)
    x = attention(state, f"{name}.attn_1", x) if f"{name}.attn_1.q.weight" in state else x
    return resnet(state, f"{name}.block_2", x)


def vectors_slowly(config: FirstStageConfig, state: State, image: Tensor) -> Tensor:
    x = conv(state, "encoder.conv_in", image, padding=1)
    for level in range(len(config.widths)):
        x = resolution(state, f"encoder.down.{level}", x)
        if level == len(config.widths) - 1:
            break
        if config.resample_conv:  # every output pixel sees the 3×3 pixels from its own 2×2 block on
            wider = torch.zeros(*x.shape[:2], x.shape[2] + 1, x.shape[3] + 1, dtype=x.dtype)
            wider[:, :, :-1, :-1] = x
            x = conv(state, f"encoder.down.{level}.downsample.conv", wider, stride=2)
        else:
            x = (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4
    x = active(state, "encoder.norm_out", middle(state, "encoder.mid", x))
    return conv(state, "quant_conv", conv(state, "encoder.conv_out", x, padding=1))


def decode_slowly(config: FirstStageConfig, state: State, codes: Tensor) -> Tensor:
    table = state["quantize.embedding.weight"]
    x = torch.stack([torch.stack([torch.stack([table[code] for code in row], 1) for row in one], 1) for one in codes])
    x = conv(state, "decoder.conv_in", conv(state, "post_quant_conv", x), padding=1)
    x = middle(state, "decoder.mid", x)
    for level in reversed(range(len(config.widths))):
        x = resolution(state, f"decoder.up.{level}", x)
        if level:
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
            name = f"decoder.up.{level}.upsample.conv"
            x = conv(state, name, x, padding=1) if config.resample_conv else x
    return conv(state, "decoder.conv_out", active(state, "decoder.norm_out", x), padding=1)


def test_decoding_equals_the_formulas(config: FirstStageConfig) -> None:
    model = build(config)
    codes = torch.randint(config.levels, (2, *config.codes[0].shape), generator=torch.Generator().manual_seed(2))
    image = model.decode(codes)
    assert image.shape == (2, config.channels, *config.shape)
    torch.testing.assert_close(image, decode_slowly(config, model.state_dict(), codes), rtol=0, atol=1e-10)


def test_encoding_equals_the_formulas(config: FirstStageConfig) -> None:
    model = build(config)
    image = torch.rand(2, config.channels, *config.shape, dtype=torch.float64) * 2 - 1
    codes, (vectors,) = model.encode(image)
    torch.testing.assert_close(vectors, vectors_slowly(config, model.state_dict(), image), rtol=0, atol=1e-10)
    distances = (vectors.permute(0, 2, 3, 1)[..., None, :] - model.tables[0]).pow(2).sum(-1)
    assert torch.equal(codes[0], torch.from_numpy(distances.numpy().argmin(-1)))
    assert codes[0].shape[1:] == config.codes[0].shape
    given = (codes[0] + 1) % config.levels
    assert torch.equal(model.encode(image, (given,))[0][0], given)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"shape": (8, 13)}, "8x13 pixels, but this model needs multiples of 2"),
        ({"widths": (32, 48)}, "48 channels, which the group norm's 32 groups do not divide"),
        ({"ch": 16}, "16 channels, which"),
        ({"widths": ()}, "resolutions is 0"),
        ({"attention": (2,)}, r"attention at resolutions \[2\] of 2"),
        ({"channels": 2}, "images have 2 channels"),
        ({"levels": 0}, "levels is 0"),
    ],
)
def test_impossible_sizes_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        replace(SMALL, **change)  # type: ignore[arg-type]
