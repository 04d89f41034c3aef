"""VQ-VAEs against a transcription of their formulas that reads the weights by their public names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.models.vqvae import VqVae
from pixelsnail_infer.models.vqvae_config import VqVaeConfig
from pixelsnail_infer.models.vqvae_layers import nearest_codes

State = dict[str, Tensor]
TWO = VqVaeConfig(shape=(16, 24), levels=(11, 13), channel=6, n_res_block=2, n_res_channel=3, embed_dim=4)
ONE = replace(TWO, levels=(9,), factor=2)
CONFIGS = {
    "two": TWO,
    "two_inplace": replace(TWO, relu_inplace=True),
    "two_grey_by_8": replace(TWO, in_channel=1, factor=8, n_res_block=1, shape=(16, 16)),
    "one": ONE,
    "one_by_4_without_blocks": replace(ONE, factor=4, n_res_block=0),
    "audio": replace(ONE, in_channel=1, factor=4, kernels=(4, 2, 6, 8), suffix="_b", relu_inplace=True),
}


@pytest.fixture(params=list(CONFIGS))
def config(request: pytest.FixtureRequest) -> VqVaeConfig:
    return CONFIGS[request.param]


def build(config: VqVaeConfig) -> VqVae:
    torch.manual_seed(4)
    return VqVae(config).double().eval().requires_grad_(False)


def conv(state: State, name: str, x: Tensor, **how: int) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **how)


def up(state: State, name: str, x: Tensor) -> Tensor:
    return F.conv_transpose2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=2, padding=1)


def blocks(state: State, name: str, first: int, x: Tensor, config: VqVaeConfig) -> tuple[int, Tensor]:
    """The residual blocks of a stack; returns the index after the ReLU that follows them."""
    for k in range(first, first + config.n_res_block):
        inner = conv(state, f"{name}.{k}.conv.1", x.clamp(min=0), padding=1)
        inner = conv(state, f"{name}.{k}.conv.3", inner.clamp(min=0))
        x = inner + (x.clamp(min=0) if config.relu_inplace else x)
    return first + config.n_res_block + 1, x.clamp(min=0)


def down_stack(state: State, name: str, x: Tensor, factor: int, config: VqVaeConfig) -> Tensor:
    index = 0
    while 2 ** (index // 2) < factor:
        kernel = state[f"{name}.{index}.weight"].shape[3]
        x = conv(state, f"{name}.{index}", x, stride=2, padding=(kernel - 2) // 2).clamp(min=0)
        index += 2
    return blocks(state, name, index + 1, conv(state, f"{name}.{index}", x, padding=1), config)[1]


def up_stack(state: State, name: str, x: Tensor, factor: int, config: VqVaeConfig) -> Tensor:
    index, x = blocks(state, name, 1, conv(state, f"{name}.0", x, padding=1), config)
    while factor > 1:
        x = up(state, f"{name}.{index}", x)
        factor, index = factor // 2, index + 2
        x = x.clamp(min=0) if factor > 1 else x
    return x


def look_up(book: Tensor, codes: Tensor) -> Tensor:
    return torch.stack([torch.stack([book[:, code] for code in row.flatten()], 1).view(-1, *row.shape)
                        for row in codes])  # [B, D, h, w]


def decode_slowly(config: VqVaeConfig, state: State, codes: list[Tensor]) -> Tensor:
    if not config.two_level:
        return up_stack(state, "dec.blocks", look_up(state[f"quantize{config.suffix}.embed"], codes[0]),
                        config.factor, config)
    coarse = up(state, "upsample_t", look_up(state["quantize_t.embed"], codes[0]))
    fine = look_up(state["quantize_b.embed"], codes[1])
    return up_stack(state, "dec.blocks", torch.cat([coarse, fine], 1), config.factor, config)


def vectors_slowly(config: VqVaeConfig, state: State, image: Tensor, top: Tensor | None) -> list[Tensor]:
    suffix = "_b" if config.two_level else config.suffix
    names = ["blocks"] if len(config.kernels) == 1 else [f"blocks_{k + 1}" for k in range(len(config.kernels))]
    seen = sum(down_stack(state, f"enc{suffix}.{name}", image, config.factor, config) for name in names)
    assert isinstance(seen, Tensor)
    if not config.two_level:
        return [conv(state, f"quantize_conv{suffix}", seen)]
    above = conv(state, "quantize_conv_t", down_stack(state, "enc_t.blocks", seen, 2, config))
    assert top is not None
    detail = up_stack(state, "dec_t.blocks", look_up(state["quantize_t.embed"], top), 2, config)
    return [above, conv(state, "quantize_conv_b", torch.cat([detail, seen], 1))]


def codes_of(config: VqVaeConfig, count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(8)
    return [torch.randint(s.levels, (count, *s.shape), generator=generator) for s in config.codes]


def test_decoding_equals_the_formulas(config: VqVaeConfig) -> None:
    model, codes = build(config), codes_of(config, 2)
    image = model.decode(*codes)
    assert image.shape == (2, config.in_channel, *config.shape)
    torch.testing.assert_close(image, decode_slowly(config, model.state_dict(), codes), rtol=0, atol=1e-12)


def test_encoding_equals_the_formulas(config: VqVaeConfig) -> None:
    model = build(config)
    image = torch.rand(2, config.in_channel, *config.shape, dtype=torch.float64) * 2 - 1
    codes, vectors = model.encode(image)
    expected = vectors_slowly(config, model.state_dict(), image, codes[0])
    for found, other, table, level in zip(vectors, expected, model.tables, codes, strict=True):
        torch.testing.assert_close(found, other, rtol=0, atol=1e-12)
        distances = (found.permute(0, 2, 3, 1)[..., None, :] - table).pow(2).sum(-1)  # [B, h, w, n]
        assert torch.equal(level, torch.from_numpy(distances.numpy().argmin(-1)))
    assert [tuple(level.shape[1:]) for level in codes] == [spec.shape for spec in config.codes]


def test_given_codes_are_taken_for_the_first_levels() -> None:
    model = build(TWO)
    image = torch.rand(1, 3, *TWO.shape, dtype=torch.float64) * 2 - 1
    own, usual = model.encode(image)
    top = (own[0] + 1) % TWO.levels[0]
    codes, vectors = model.encode(image, (top,))
    expected = vectors_slowly(TWO, model.state_dict(), image, top)
    assert torch.equal(codes[0], top)
    torch.testing.assert_close(vectors[0], usual[0], rtol=0, atol=0)
    torch.testing.assert_close(vectors[1], expected[1], rtol=0, atol=1e-12)
    assert (vectors[1] - usual[1]).abs().max() > 1e-6


def test_the_in_place_activation_changes_the_model() -> None:
    plain, inplace = build(TWO), build(replace(TWO, relu_inplace=True))
    inplace.load_state_dict(plain.state_dict())
    codes = codes_of(TWO, 1)
    assert (plain.decode(*codes) - inplace.decode(*codes)).abs().max() > 1e-4


def test_nearest_codes_are_the_nearest_and_of_equals_the_first() -> None:
    random = np.random.default_rng(0)
    table = random.integers(-2, 3, (12, 3)).astype(np.float64)
    table[7] = table[2]  # equal rows: the first is taken
    vectors = random.integers(-3, 4, (2, 3, 4, 5)).astype(np.float64)  # many exact ties
    found = nearest_codes(torch.from_numpy(vectors), torch.from_numpy(table)).numpy()
    for b, i, j in np.ndindex(2, 4, 5):
        distances = [float(((vectors[b, :, i, j] - row) ** 2).sum()) for row in table]
        assert found[b, i, j] == distances.index(min(distances))
    assert 2 in found and 7 not in found


@pytest.mark.parametrize(
    "change, message",
    [
        ({"shape": (12, 24)}, "12x24 pixels, but this model needs multiples of 8; choose another size"),
        ({"levels": (3, 0)}, r"levels\[1\] is 0"),
        ({"levels": (3, 3, 3)}, "3 levels of codes were asked for"),
        ({"levels": ()}, "0 levels of codes"),
        ({"in_channel": 4}, "images have 4 channels"),
        ({"channel": 1}, "channel is 1"),
        ({"factor": 3}, "factor is 3"),
        ({"factor": 1}, "factor is 1"),
        ({"kernels": (3,)}, r"kernels are \[3\]; they must be even"),
        ({"kernels": ()}, r"kernels are \[\]"),
        ({"embed_dim": 0}, "embed_dim is 0"),
    ],
)
def test_impossible_sizes_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        replace(TWO, **change)  # type: ignore[arg-type]
