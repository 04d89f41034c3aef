"""bfloat16 without NumPy's help, products of half precision on the CPU, and the CUDA engine over a stand-in."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixelsnail_infer.errors import BackendError
from pixelsnail_infer.runtime import Sampler, load
from pixelsnail_infer.runtime.backends import torch_cuda
from pixelsnail_infer.runtime.backends.graphs import GraphSet
from pixelsnail_infer.runtime.backends.halves import all_finite, as_held, host_dtype
from pixelsnail_infer.runtime.backends.torch_cpu import HostBuffer, TorchBackend
from pixelsnail_infer.runtime.backends.torch_cuda import TorchCudaBackend
from pixelsnail_infer.runtime.backends.torch_products import half_products
from pixelsnail_infer.runtime.files.archive_files import ArchiveFiles

from .test_torch_backend import Steps


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**127), max_value=2.0**127))
def test_bfloat16_is_rounded_as_everywhere(number: float) -> None:
    assert as_held(number, "bfloat16") == np.array(number, ml_dtypes.bfloat16).view(np.uint16)


def test_ties_go_to_the_even_neighbour() -> None:
    for number in (1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 0.0, 257.0):
        assert as_held(number, "bfloat16") == np.array(number, ml_dtypes.bfloat16).view(np.uint16)
    assert as_held(0.1, "float16") == np.float16(0.1) and as_held(7.0, "float32").dtype == np.float32


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_seen(wrong: float) -> None:
    for number in (3.3e38, 0.0, -1e-40, 1.0):
        held = np.array([number, 1.0], ml_dtypes.bfloat16)
        assert all_finite(held.view(np.uint16), "bfloat16")
        held[1] = wrong
        assert not all_finite(held.view(np.uint16), "bfloat16")
    assert not all_finite(np.array([wrong], np.float16), "float16") and all_finite(np.zeros(2, np.float16), "float16")


def test_host_memory_is_the_tensor_s() -> None:
    buffer = HostBuffer((2, 3), "bfloat16")
    assert buffer.array.dtype == host_dtype("bfloat16") == np.uint16 and buffer.tensor.dtype == torch.bfloat16
    buffer.array[1] = as_held(1.5, "bfloat16")
    assert buffer.tensor.tolist() == [[0.0] * 3, [1.5] * 3]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_products_are_of_float32_and_rounded_once(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(2000, 50).to(dtype).eval()
    layer.register_buffer("held", layer.weight)  # archives hold all their weights so
    x, image, kernel = torch.randn(3, 2000).to(dtype), torch.randn(1, 64, 8, 8).to(dtype), torch.randn(9, 64, 3, 3)
    kernel = kernel.to(dtype)
    with torch.inference_mode(), half_products(layer):
        found = [torch.matmul(x, layer.weight.T), torch.addmm(layer.bias, x, layer.weight.T),
                 torch.conv2d(image, kernel, None, [1, 1], [1, 1]), layer(x)]
        assert torch.matmul(x.float(), layer.weight.float().T).dtype == torch.float32
    wide = layer.weight.float().T
    expected = [x.float() @ wide, torch.addmm(layer.bias.float(), x.float(), wide),
                torch.conv2d(image.float(), kernel.float(), None, [1, 1], [1, 1]),
                torch.nn.functional.linear(x.float(), layer.weight.float(), layer.bias.float())]
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype and torch.equal(one, other.to(dtype))
    assert isinstance(half_products(torch.nn.BatchNorm2d(2)), nullcontext)


def test_what_a_backend_lacks_is_refused_by_name(digits_bfloat16: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TorchBackend, "plans", TorchBackend.plans[:2])
    with pytest.raises(BackendError, match="has no precision 'bfloat16', only 'float32' and 'float16'; which .*digits"):
        load(digits_bfloat16)


def test_captured_graphs_take_bfloat16(digits_bfloat16: Path) -> None:
    """States go to the device and come back bit by bit; so the codes are those of the plain engine."""
    files, queue, label = ArchiveFiles(digits_bfloat16), Steps(), np.arange(3)
    backend = TorchCudaBackend("cuda", 1, queue)
    with load(digits_bfloat16, threads=1) as plain, Sampler(files.manifest, backend, GraphSet(files, backend)) as other:
        codes = plain.sample(3, label=label)
        for rows in (0, 5):
            one, two = (sampler.replay(codes, label=label, known_rows=rows, twice=True) for sampler in (plain, other))
            assert np.nanmax(np.abs(one - two)) < 0.05 * np.nanstd(one)
        assert np.isfinite(other.score(codes, label=label)).all() and queue.captures


def test_a_capture_sums_in_float32() -> None:
    matmul = torch.backends.cuda.matmul
    assert matmul.allow_fp16_reduced_precision_reduction and matmul.allow_bf16_reduced_precision_reduction
    with torch_cuda.exactly():
        assert not matmul.allow_fp16_reduced_precision_reduction and not matmul.allow_bf16_reduced_precision_reduction
    assert matmul.allow_fp16_reduced_precision_reduction and matmul.allow_bf16_reduced_precision_reduction
