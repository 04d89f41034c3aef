"""Random stacks of layers that are causal by construction: never wrong, and hardly ever refused."""

from __future__ import annotations

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.errors import ModelError

from .gate import TOLERANCE, leaks
from .looking import of_module
from .zoo import First, Network, Shape, Sketch, conv, down, head, hot, right
from .zoo_attention import INCLUSIVE, STRICT, Attention, inclusive, strict

WIDTH = 4


class Causal(nn.Module):
    """A convolution of any kernel, placed so that its last tap is the pixel itself, with a border value of its own."""

    def __init__(self, rows: int, columns: int, ahead: int, dilation: int, value: float, after: bool) -> None:
        super().__init__()
        self.conv = conv(WIDTH, WIDTH, (rows, columns), dilation=dilation)
        self.last = columns - 1 - min(ahead, columns - 1)  # column of the kernel that is the pixel's
        self.dilation, self.value, self.after = dilation, value, after
        with torch.no_grad():
            self.conv.weight[:, :, -1, self.last + 1:] = 0

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = ((k - 1) * self.dilation for k in self.conv.kernel_size)
        left = self.last * self.dilation
        pads = [left, columns - left, rows, 0]
        return self.conv(torch.tanh(F.pad(x, pads, value=self.value)) if self.after else
                         F.pad(torch.tanh(x), pads, value=self.value))


class Shift(nn.Module):
    def __init__(self, dy: int, dx: int) -> None:
        super().__init__()
        self.by = dy, dx

    def forward(self, x: Tensor) -> Tensor:
        return right(down(x, self.by[0]), self.by[1])


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(WIDTH, 2 * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return F.glu(self.conv(F.elu(x)), 1)


class Attend(nn.Module):
    def __init__(self, shape: Shape, style: int, heads: int) -> None:
        super().__init__()
        weigh = (*STRICT, *INCLUSIVE)[style]
        mask = strict(shape) if style < len(STRICT) else inclusive(shape)
        self.attention = Attention(mask, weigh, heads=heads, into=WIDTH, keys_from=WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x)


class Branch(nn.Module):
    """x + f(x), f(x) * sigmoid(g(x)), or both joined and mixed."""

    def __init__(self, how: str, f: nn.Module, g: nn.Module) -> None:
        super().__init__()
        self.how, self.f, self.g, self.mix = how, f, g, conv(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "residual":
            return x + self.f(x)
        if self.how == "gate":
            return self.f(x) * torch.sigmoid(self.g(x))
        return self.mix(torch.cat([self.f(x), self.g(x)], 1))


SHAPES = st.sampled_from([(3, 4), (4, 3), (2, 5), (3, 3)])


def layers(shape: Shape) -> st.SearchStrategy[nn.Module]:
    simple = st.one_of(
        st.builds(Causal, st.integers(1, 3), st.integers(1, 4), st.integers(0, 2), st.integers(1, 2),
                  st.sampled_from([0.0, 0.0, -0.7]), st.booleans()),
        st.builds(Shift, st.integers(0, 2), st.integers(0, 2)), st.builds(Gate), st.builds(nn.Tanh),
        st.builds(Attend, st.just(shape), st.integers(0, len(STRICT) + len(INCLUSIVE) - 1), st.sampled_from([1, 2])))
    return st.one_of(simple, st.builds(Branch, st.sampled_from(["residual", "gate", "join"]), simple, simple))


@st.composite
def stacks(draw: st.DrawFn) -> tuple[nn.Module, Shape]:
    shape = draw(SHAPES)
    torch.manual_seed(draw(st.integers(0, 1000)))
    body = draw(st.lists(layers(shape), min_size=1, max_size=4))
    return Sketch(lambda m, x: m.out(m.body(m.first(hot(x)))), first=First(WIDTH), body=nn.Sequential(*body),
                  out=head(WIDTH)), shape


@settings(max_examples=40, derandomize=True)
@given(stacks())
def test_never_wrong(case: tuple[nn.Module, Shape]) -> None:
    module, shape = case
    try:
        found = of_module(module, shape)
    except ModelError as error:  # shifted off the canvas altogether
        assume("depends on a pixel" not in str(error))
        raise
    assert found.error(1) < TOLERANCE
    assert found.error(3) < TOLERANCE
    assert leaks(Network("random", lambda shape: module, (shape,)), shape, step=2) == []
