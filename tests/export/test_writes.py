"""What the recorder makes of tensors that share memory: names of one constant, copies of what was used, errors."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.analysis.simplify import simplify
from pixelsnail_infer.export.fields import topological
from pixelsnail_infer.export.lowering.lower import lower
from pixelsnail_infer.export.tracing.forward import Forward
from pixelsnail_infer.export.tracing.trace import InputSpec, trace_model
from pixelsnail_infer.export.tracing.traced import Trace

from .gate import TOLERANCE, leaks
from .looking import of_module
from .networks import NETWORKS
from .zoo import LEVELS, WIDTH, First, Network, Sketch, conv, head, hot

SPEC = (InputSpec("pixels", (4, 5), torch.int64, LEVELS),)


def sketch(run: object, **parts: nn.Module) -> nn.Module:
    return Sketch(run, first=First(), out=head(), **parts)  # type: ignore[arg-type]


def trace(module: nn.Module) -> Trace:
    return trace_model(module.double(), lambda m, *x: m(*x), SPEC)


def test_constants_are_recorded_as_they_were_when_they_were_used() -> None:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        scale = torch.ones(WIDTH, 1, 1, dtype=y.dtype)
        part = scale[:3]
        y = y * scale
        part *= 3
        y = y + scale
        scale.zero_()
        return m.out(F.elu(y + scale))
    assert of_module(sketch(run)).error() < TOLERANCE


def test_weights_that_every_forward_sets_are_recorded_as_each_call_finds_them() -> None:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        for value in (0.5, -0.25):
            m.mix.weight.data[:, 0] = value
            y = F.elu(m.mix(y))
        return m.out(y)
    assert of_module(sketch(run, mix=conv())).error() < TOLERANCE


def test_all_names_of_a_constant_see_what_is_written_into_one() -> None:
    """Views made before the write, one of them dead since, and `.data`, which is a name that no operation gave."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        space = torch.zeros(x.shape[0], 2, 3, 4, 5, dtype=y.dtype)
        early, rows = space.flatten(1, 2), space[:, 1].transpose(1, 2)
        space[:, 0][:, 1:] = y[:, :2]
        rows[:, 1:, 0] = y[:, 2, :-1]
        space.data[:, 1, 2, :, 0] += 1
        return m.out(early + space.view_as(y))
    assert of_module(sketch(run)).error() < TOLERANCE


class _Twice(nn.Module):
    """Working memory under two names, made before the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = First(), head()
        self.space = torch.zeros(1, WIDTH, 4, 5, dtype=torch.float64)
        self.again = self.space.data

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(hot(x))
        self.space[:, :2] = 0.5
        space = self.again.view(WIDTH, 4, 5)
        space[2:] = 0.25
        y[:, 3:] *= self.space[:, :3]
        return self.out(y + self.again)


def test_two_names_of_one_whole_that_were_made_before_the_forward_are_one() -> None:
    assert of_module(_Twice()).error() < TOLERANCE

    class Traced(_Twice):
        def forward(self, x: Tensor) -> Tensor:
            self.space = torch.zeros(x.shape[0], WIDTH, 4, 5, dtype=torch.float64)
            self.again = torch.nn.Parameter(self.space, requires_grad=False)
            self.space[:, 1:] = self.first(hot(x))[:, 1:]
            return self.out(self.again)
    assert of_module(Traced()).error() < TOLERANCE


class _Caching(nn.Module):
    """Working memory from an `lru_cache`, which all modules share."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = First(), head()

    @staticmethod
    @functools.lru_cache(maxsize=8)
    def space(batch: int) -> Tensor:
        return torch.zeros(batch, WIDTH, 4, 5, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        space = self.space(x.shape[0])
        space[:, :, 1:] = self.first(hot(x))[:, :, :-1]
        return self.out(space)


def test_cached_memory_stays_a_tensor_of_numbers() -> None:
    _Caching.space.cache_clear()
    trace(_Caching())
    assert type(_Caching.space(2)) is Tensor and not bool(_Caching.space(2).any())
    assert of_module(_Caching()).error() < TOLERANCE


def test_memory_that_nothing_was_written_into_is_the_same_in_every_record() -> None:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        z = torch.empty(y.shape, dtype=y.dtype)
        z[:, 1:] = y[:, 1:]
        z[:, 0] = 0
        return m.out(z)
    assert of_module(sketch(run)).error() < TOLERANCE
    held = [value for node in trace(sketch(run)).nodes for value in node.args if isinstance(value, Tensor)]
    assert any(value.shape == (1, WIDTH, 4, 5) and not bool(value.any()) for value in held), "it is zeros there"


def test_a_callers_tensors_stay_as_they_are() -> None:
    def run(m: Sketch, x: Tensor, depth: Tensor) -> Tensor:
        depth.mul_(0)
        x.zero_()
        return m.out(m.first(hot(x)) + depth)
    pixels, depth = torch.ones(2, 4, 5, dtype=torch.int64), torch.ones(2, WIDTH, 4, 5, dtype=torch.float64)
    Forward(lambda m, x, given: m(x, given["depth"]))(sketch(run).double(), pixels, {"depth": depth})
    assert bool((pixels == 1).all()) and bool((depth == 1).all())


def test_values_before_a_write_stay_what_they_were() -> None:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        before, copied = torch.tanh(y), y.clone()
        y[:, 2:].zero_()
        y += before
        return m.out(y * copied)
    assert of_module(sketch(run)).error() < TOLERANCE


def test_a_write_of_another_dtype_is_cast() -> None:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        y[:, 0] = x
        y[:, 1:3] = (x > 1)[:, None]
        z = y[:, 3:]
        z.gt_(0.1)
        x[:, 0] = 0
        return m.out(m.first(F.pad(y, [1, 0])[:, :LEVELS, :, :-1]) + m.first(hot(x)))
    assert of_module(sketch(run)).error() < TOLERANCE


@pytest.mark.parametrize("name", ["one_hot_by_scatter", "one_hot_by_assignment", "one_hot_by_rows"])
def test_one_hots_by_hand_become_look_ups(name: str) -> None:
    field = simplify(lower(trace(NETWORKS[name].module((4, 5))), "pixels", (4, 5)))
    ops = [node.op for node in topological([field])]
    assert ops.count("lookup") == 2 and "cat" not in ops and not any(n.attrs.get("fn") == "eq" for n in
                                                                     topological([field]))


def choices(run: object) -> int:
    """How many choices by position are left of a network."""
    field = simplify(lower(trace(sketch(run)), "pixels", (4, 5)))
    return sum(node.attrs.get("fn") == "where" for node in topological([field]))


def test_a_value_filled_row_by_row_by_one_function_is_that_function() -> None:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        z = torch.zeros_like(y)
        for i in range(4):
            z[:, :, i] = torch.tanh(y[:, :, i])
        return m.out(z)
    assert choices(run) == 0


def test_rows_by_two_functions_are_one_choice() -> None:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        z = torch.ones_like(y)
        for i in range(4):
            z[:, :, i] = torch.tanh(y[:, :, i]) if i % 2 else F.elu(y[:, :, i])
        return m.out(z)
    assert choices(run) == 1
    assert of_module(sketch(run)).error() < TOLERANCE


def test_what_is_written_over_whole_is_no_leak() -> None:
    """The pixel itself stood there before."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.pad(m.first(hot(x)), [0, 0, 0, 0, 1, 0])
        z = hot(x).repeat(1, 2, 1, 1)[:, :7].clone()
        for i in range(4):
            z[:, :, i] = y[:, :, i]
        return m.out(z[:, 1:])
    assert leaks(Network("sketch", lambda shape: sketch(run), ((4, 5),)), (4, 5)) == []
    assert of_module(sketch(run)).error() < TOLERANCE


def test_two_names_that_were_made_before_the_forward_are_refused() -> None:
    """A part of a buffer that another buffer is: which numbers they share was not seen."""
    class Sharing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.out = First(), head()
            self.space = torch.zeros(3, WIDTH, 4, 5, dtype=torch.float64)
            self.part = self.space[:, :3]

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(hot(x))
            self.space[: x.shape[0]] = y
            self.part[:, 1:] *= 2
            return self.out(self.space[: x.shape[0]])
    with pytest.raises(UnsupportedOpError, match="shares memory|cuts along the batch|images of a batch"):
        of_module(Sharing())


@pytest.mark.parametrize("name", ["inputs_written", "a_buffer_of_the_module"])
def test_the_module_and_its_inputs_are_unchanged(name: str) -> None:
    module = NETWORKS[name].module((4, 5))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    trace_model(module, lambda m, *x: m(*x), NETWORKS[name].inputs((4, 5)))
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
