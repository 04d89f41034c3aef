"""The probe knows the network only by running it: which pairs it finds, and what it calls unsteady."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.distributions import Categorical, LogisticMixture
from pixelsnail_infer.export.proofs.probe import Leak, find_leak, find_pair, unsteady
from pixelsnail_infer.export.proofs.reference import BATCH, Reference

from .zoo import LEVELS, Sketch

CALLS = itertools.count()


def reference(run: Callable[[Tensor], Tensor], shape: tuple[int, int] = (4, 5)) -> Reference:
    """A network of codes, written as a function of the one-hot codes `[B, LEVELS, H, W]`."""
    return Reference(Sketch(lambda m, x: run(F.one_hot(x, LEVELS).permute(0, 3, 1, 2).float())), None, shape,
                     Categorical(LEVELS), ())


def late(x: Tensor, rows: int, columns: int) -> Tensor:
    """Every position reads one so many rows and columns before it (or after it, where negative)."""
    down, right = max(rows, 0), max(columns, 0)
    up, left = max(-rows, 0), max(-columns, 0)
    h, w = x.shape[2:]
    return F.pad(x, [right, left, down, up])[:, :, up:up + h, left:left + w]


def causal(x: Tensor) -> Tensor:
    return late(x, 0, 1) + 0.3 * late(x, 1, -2)


@pytest.mark.parametrize("shape, tried, of", [
    ((4, 5), 20, "float64"), ((10, 10), 100, "float64"), ((12, 12), 10, "float32"), ((48, 48), 7, "float32"),
    ((1, 1), 1, "float64"), ((1, 7), 7, "float64"),
])
def test_causal_networks_pass(shape: tuple[int, int], tried: int, of: str) -> None:
    probed = reference(lambda x: causal(x) + torch.arange(float(LEVELS)).view(1, -1, 1, 1), shape)
    assert unsteady(probed) is None
    check, leak = find_leak(probed)
    assert leak is None and check.passed and check.value == 0
    assert check.positions == tried and check.detail == f"{tried} of {shape[0] * shape[1]} positions, {of}"
    assert find_pair(probed) is None


@pytest.mark.parametrize("rows, columns, changed, moved", [
    (0, 0, 0, 0), (0, -1, 1, 0), (0, -3, 3, 0), (-1, 0, 5, 0), (-1, 2, 5, 2), (-3, 4, 15, 4), (-3, -4, 19, 0),
])
def test_the_first_pair_is_found(rows: int, columns: int, changed: int, moved: int) -> None:
    """Position p reads the pixel `rows` and `columns` before it, which is a later one."""
    _, leak = find_leak(reference(lambda x: causal(x) + late(x, rows, columns)))
    assert leak is not None and (leak.changed, leak.moved, leak.onwards) == (changed, moved, False)
    assert leak.by > 0.1


def test_a_leak_at_the_very_end_of_a_large_canvas() -> None:
    def run(x: Tensor) -> Tensor:
        only = torch.zeros(12, 12)
        only[11, 10] = 1
        return causal(x) + late(x, 0, -1) * only

    _, leak = find_leak(reference(run, (12, 12)))
    assert leak is not None and (leak.changed, leak.moved) == (143, 142)


@pytest.mark.parametrize("row, column, rows, columns, changed", [
    (47, 46, 0, -1, (47, 47)), (27, 7, -20, 0, None), (24, 20, 0, -9, None), (0, 3, -1, 2, None),
])
def test_leaks_of_very_large_canvases(row: int, column: int, rows: int, columns: int, changed: tuple[int, int] | None
                                      ) -> None:
    """Where a forward takes seconds, all that follows is changed, and single pixels only to name the pair."""
    def run(x: Tensor) -> Tensor:
        only = torch.zeros(48, 48)
        only[row, column] = 1
        return causal(x) + late(x, rows, columns) * only

    _, leak = find_leak(reference(run, (48, 48)))
    assert leak is not None and leak.moved == row * 48 + column and leak.onwards == (changed is None)
    assert changed is None or leak.changed == changed[0] * 48 + changed[1]


def test_a_leak_between_the_ends_of_a_large_canvas_is_found_by_changing_all_that_follows() -> None:
    def run(x: Tensor) -> Tensor:
        only = torch.zeros(12, 12)
        only[3, 4] = 1
        return causal(x) + late(x, -5, 0) * only  # which reads (8, 4)

    _, leak = find_leak(reference(run, (12, 12)))
    assert leak is not None and (leak.onwards, leak.changed, leak.moved) == (True, 57, 40)
    assert str(leak).startswith("changing the pixels from (row 4, column 9) on changes the prediction of pixel (row 3,")


def test_a_leak_of_two_pixels_together() -> None:
    """No single pixel moves it: only the last two at once do, as in the image with all pixels changed."""
    probed = reference(causal)
    codes = probed.changed(probed.known(1, torch.float64).images[0], 0)
    a, b = (int(code) for code in codes.reshape(-1)[-2:])
    joint = reference(lambda x: causal(x) + (x[:, a, -1, -2] * x[:, b, -1, -1]).view(-1, 1, 1, 1))
    _, leak = find_leak(joint)
    assert leak is not None and leak.onwards and (leak.changed, leak.moved) == (0, 0)


def test_faint_leaks_of_large_canvases_are_for_find_pair() -> None:
    faint = reference(lambda x: causal(x) + 1e-6 * late(x, 0, -1), (12, 12))
    assert find_leak(faint)[1] is None
    pair = find_pair(faint)
    assert pair is not None and pair.by < 1e-5


def test_images_leak_through_their_channels_alike() -> None:
    """Of two channels that see each other at one position, one leak."""
    law = LogisticMixture(2, 3)
    module = Sketch(lambda m, x: m.out(F.pad(x, [1, 0, 0, 0])[..., :-1] + m.mix * x), out=nn.Conv2d(3, 20, 1))
    torch.manual_seed(0)
    for mix in (0.0, 0.5):
        module.mix = mix
        _, leak = find_leak(Reference(module, None, (4, 5), law, ()))
        assert (leak is None) == (mix == 0)


def test_what_is_unsteady() -> None:
    for run, says in (
        (lambda x: causal(x) + torch.randn_like(x), "two forwards on the same image differ"),
        (lambda x: causal(x) * (1 + next(CALLS)), "two forwards on the same image differ"),
        (lambda x: causal(x) + x.mean((0, 1, 2, 3)), None),
        (lambda x: causal(x) + causal(x)[:1], "with the other images of its batch"),
        (lambda x: F.batch_norm(causal(x), None, None, training=True), "with the other images of its batch"),
    ):
        probed = reference(run)
        found = unsteady(probed)
        assert (found is None) == (says is None) and (says is None or says in str(found))


def _hot(x: Tensor) -> Tensor:
    return F.one_hot(x, LEVELS).permute(0, 3, 1, 2).float()


def _fading(m: Sketch, x: Tensor) -> Tensor:
    m.mix.weight.data *= 0.9
    return m.mix(causal(_hot(x)))


def _clamping(m: Sketch, x: Tensor) -> Tensor:
    m.mix.weight.data[:, 0].clamp_(-0.01, 0.01)
    return m.mix(causal(_hot(x)))


@pytest.mark.parametrize(("run", "says"), [
    (_fading, "every forward changes mix.weight once more"), (_clamping, None)])
def test_a_forward_that_changes_its_module_gives_the_same_again(run: object, says: str | None) -> None:
    torch.manual_seed(1)
    module = Sketch(run, mix=nn.Conv2d(LEVELS, LEVELS, 1))  # type: ignore[arg-type]
    found = unsteady(Reference(module, None, (4, 5), Categorical(LEVELS), ()))
    assert (found is None) == (says is None) and (says is None or says in str(found))


def test_what_is_known_is_run_once() -> None:
    sizes: list[tuple[int, torch.dtype]] = []

    def run(x: Tensor) -> Tensor:
        sizes.append((len(x), x.dtype))
        return causal(x)

    probed = reference(run)
    for dtype in (torch.float32, torch.float64):
        for _ in range(2):
            one, all_of_them = probed.known(1, dtype), probed.known(BATCH, dtype)
            assert np.array_equal(one.images, all_of_them.images[-1:])
            assert one.logits.dtype == np.dtype(str(dtype)[6:])
            assert np.abs(one.logits - all_of_them.logits[-1:]).max() < 1e-6
    assert [size for size, _ in sizes] == [1, BATCH, BATCH], "in float64 the one is among the others"


def test_places_are_said_in_rows_and_columns() -> None:
    assert str(Leak(13, 7, 0.5, 6, False)) == (
        "changing pixel (row 2, column 1) changes the prediction of pixel (row 1, column 1) by 0.5 standard deviations "
        "of the logits")
    assert "its own prediction" in str(Leak(7, 7, 0.5, 6, False))


def test_changed_pixels_are_the_asked_ones() -> None:
    probed = reference(causal)
    image = probed.inputs(1, 3)[0][0]
    for start, stop in ((0, 1), (7, 8), (19, 20), (3, None), (0, None)):
        other = probed.changed(image, start, stop)
        moved = np.flatnonzero((other != image).reshape(-1))
        assert moved.tolist() == list(range(20))[start:stop] and 0 <= other.min() and other.max() < LEVELS
