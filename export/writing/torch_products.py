"""Products with weights in PyTorch: functions that TorchScript compiles into the archive as they stand.

Weights are kept as `[out, in]`. On a CPU, MKL runs one product of few rows on one thread, and at half the memory's
rate; the same product as a batch of pieces of the weight runs on all threads at the full rate. So few rows are
multiplied as columns, `W xᵀ`, more of them as `x Wᵀ`, both in pieces; what has many rows, or is on a GPU, is one
product.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["layer_products", "linear", "matmul", "product", "products"]


def product(value: Tensor, weight: Tensor, pieces: int) -> Tensor:
    """`value [..., in]` times the transposed `weight [out, in]`, whose rows go into `pieces` equal ones."""
    taken, given = weight.size(1), weight.size(0)
    flat = value.reshape(-1, taken)
    rows = flat.size(0)
    if value.is_cuda or rows > 128:
        return torch._C._nn.linear(value, weight)
    cut = weight.view(pieces, -1, taken)
    if rows > 8:
        found = torch.bmm(flat.unsqueeze(0).expand(pieces, rows, taken), cut.transpose(1, 2))  # [pieces, rows, n]
        found = found.transpose(0, 1)
    else:
        columns = torch.bmm(cut, flat.transpose(0, 1).unsqueeze(0).expand(pieces, taken, rows))  # [pieces, n, rows]
        found = columns.view(given, rows).transpose(0, 1)
    return found.reshape(list(value.shape)[:-1] + [given])


def linear(value: Tensor, weight: Tensor, bias: Tensor, pieces: int) -> Tensor:
    """`value [B, in]` times the transposed `weight [out, in]`, plus `bias [out]`."""
    if value.is_cuda or value.size(0) > 128:
        return torch._C._nn.linear(value, weight, bias)
    return torch.add(product(value, weight, pieces), bias)


def products(values: list[Tensor], weights: Tensor) -> Tensor:
    """`values`, M of `[B, in]`, each times the transpose of its own of the `weights [M, out, in]`, side by side:
    `[B, M out]`."""
    stacked = torch.stack(values)  # [M, B, in]
    if stacked.size(1) > 8 or stacked.is_cuda:
        found = torch.bmm(stacked, weights.transpose(1, 2)).transpose(0, 1)
    else:
        found = torch.bmm(weights, stacked.transpose(1, 2)).permute(2, 0, 1)
    return found.reshape(stacked.size(1), -1)


def layer_products(value: Tensor, weights: Tensor) -> Tensor:
    """`value [B, M, n, in]`, its layers times the transposes of `weights [M, out, in]`: `[B, M, n, out]`."""
    slots, layers, rows, taken = value.shape
    found = torch.bmm(value.transpose(0, 1).reshape(layers, slots * rows, taken), weights.transpose(1, 2))
    return found.view(layers, slots, rows, weights.size(1)).transpose(0, 1)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """The product of the last two axes. A matrix times a column, such as keys times a query, is turned round: MKL reads
    the matrix faster then."""
    if b.dim() > 2 and b.size(-1) == 1:
        return torch.matmul(b.transpose(-1, -2), a.transpose(-1, -2)).transpose(-1, -2)
    return torch.matmul(a, b)
