"""Tracing leaves the user's module as it was, whatever habits its forward has."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F

from pixelsnail_infer.errors import ModelError, UnsupportedOpError
from pixelsnail_infer.export.tracing.trace import InputSpec, trace_model

from .gate import TOLERANCE
from .looking import of_module
from .networks import NETWORKS
from .zoo import LEVELS, WIDTH, First, Masked, Sketch, conv, head, hot
from .zoo_attention import start_mask, strict

SPEC = (InputSpec("pixels", (4, 5), torch.int64, LEVELS),)


def trace(module: nn.Module) -> object:
    return trace_model(module, lambda m, *x: m(*x), SPEC)


@pytest.mark.parametrize("name", ["masked_pixelcnn", "cached_background", "weight_normed", "strict_start_mask"])
def test_the_module_is_unchanged(name: str) -> None:
    module = NETWORKS[name].module((4, 5))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    attributes = [dict(vars(child)) for child in module.modules()]
    hooks = [(*child._forward_hooks, *child._forward_pre_hooks) for child in module.modules()]
    trace(module)
    assert {key: value.tolist() for key, value in module.state_dict().items()} == \
        {key: value.tolist() for key, value in before.items()}
    for child, kept in zip(module.modules(), attributes, strict=True):
        assert vars(child).keys() == kept.keys() and all(vars(child)[key] is kept[key] for key in kept)
    assert hooks == [(*child._forward_hooks, *child._forward_pre_hooks) for child in module.modules()]


class _Caching(nn.Module):
    """Masks cached by a function of the size and by the module, one of them made like a traced tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.q, self.out = First(), conv(), head()
        self.masks: dict[tuple[int, ...], Tensor] = {}

    @staticmethod
    @functools.lru_cache(maxsize=64)
    def mask(height: int, width: int) -> Tensor:
        return strict((height, width))

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        y = F.elu(self.first(hot(x)))
        size = tuple(y.shape[2:])
        if size not in self.masks:
            self.masks[size] = torch.ones_like(y[:1, :1]) * 0.5
        q = self.q(y).flatten(2).transpose(1, 2)
        mixed = start_mask(q @ q.transpose(1, 2), self.mask(*size)) @ q
        return self.out(y + mixed.transpose(1, 2).reshape(y.shape) * self.masks[size]), None


def test_caches_hold_real_tensors_afterwards() -> None:
    _Caching.mask.cache_clear()
    torch.manual_seed(0)
    module = _Caching().double().eval()
    found = of_module(Sketch(lambda m, x: m.net(x)[0], net=module))
    assert found.error() < TOLERANCE
    cached = _Caching.mask(4, 5)
    assert type(cached) is Tensor and not isinstance(cached, FakeTensor)
    assert torch.equal(cached, strict((4, 5)))
    assert all(not isinstance(mask, FakeTensor) for mask in module.masks.values())


def test_masks_written_to_data_hold() -> None:
    module = Masked("A", LEVELS, WIDTH, 3)
    found = of_module(Sketch(lambda m, x: m.out(m.a(hot(x))), a=module, out=head()))
    assert found.error() < TOLERANCE


def test_training_mode_of_the_user_is_kept() -> None:
    module = NETWORKS["batch_norm"].module((4, 5)).train()
    trace(module)
    assert module.training and all(child.training for child in module.modules())


def test_what_depends_on_the_batch_size_is_refused() -> None:
    module = Sketch(lambda m, x: m.out(m.first(hot(x)) * x.shape[0]), first=First(), out=head()).double()
    with pytest.raises(ModelError, match="batch"):
        of_module(module)


def test_a_constant_that_differs_along_the_batch_is_refused() -> None:
    def run(m: Sketch, x: Tensor) -> Tensor:
        return m.out(m.first(hot(x)) + torch.arange(x.shape[0]).view(-1, 1, 1, 1))
    with pytest.raises(ModelError, match="batch"):
        trace(Sketch(run, first=First(), out=head()).double())


def test_an_output_that_is_no_tensor_is_refused() -> None:
    with pytest.raises(ModelError, match="forward="):
        trace(Sketch(lambda m, x: {"logits": m.out(m.first(hot(x)))}, first=First(), out=head()).double())


def test_an_output_without_pixels_is_refused() -> None:
    with pytest.raises(ModelError, match="does not depend on its pixels"):
        trace(Sketch(lambda m, x: torch.zeros(x.shape[0], LEVELS, 4, 5)))


def test_errors_name_the_module_and_the_line() -> None:
    inner = Sketch(lambda m, y: y if y.sum() > 0 else -y)
    with pytest.raises(UnsupportedOpError, match=r"module 'block.inner' \(test_trace.py:\d+\)"):
        trace(Sketch(lambda m, x: m.out(m.block(m.first(hot(x)))), first=First(), out=head(),
                     block=Sketch(lambda m, y: m.inner(y), inner=inner)).double())


def test_global_settings_are_as_before() -> None:
    before = (torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.flash_sdp_enabled(),
              torch.is_grad_enabled())
    trace(NETWORKS["multihead_attention"].module((4, 5)))
    assert before == (torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.flash_sdp_enabled(),
                      torch.is_grad_enabled())
