"""The floor of a row and of a step: how long their products alone take, or their memory traffic, whichever is longer.

Products are timed through the same engine with the same threads, at the shapes that occur: each shape in a graph of its
own, several of them in one run so that the call weighs little, their weight in the caches. What they read from memory,
weights, keys and values, is counted, and divided by the rate of a streaming read. The best of all measurements counts:
a floor is what the machine can do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

from pixelsnail_infer.manifest import ITEM_BYTES, Manifest
from pixelsnail_infer.runtime.backends.counting import open_counter
from pixelsnail_infer.runtime.backends.graphs import GraphSet
from pixelsnail_infer.runtime.backends.products import Product, ProductCounter
from pixelsnail_infer.runtime.backends.protocol import Backend, BoundGraph
from pixelsnail_infer.runtime.bench.bandwidth import StreamingRead
from pixelsnail_infer.runtime.drawing.batch import Batch
from pixelsnail_infer.runtime.files.model_files import ExportFiles

__all__ = ["PARTS", "Floors", "count_products"]

PARTS = ("row", "step")
ENOUGH = 1 << 25  # multiplications in one run of the same product
MOST_COPIES, MOST_BYTES = 32, 1 << 27

Shape = tuple[int, int, int, int]
Counts = dict[str, list[Product]]


def count_products(files: ExportFiles, size: int) -> tuple[ProductCounter, Counts]:
    """The products of a row and of a step of `size` slots, in the middle of the canvas, and what counted them."""
    manifest, counter = files.manifest, open_counter(files.manifest.archive is not None)
    batch = Batch(manifest, counter, GraphSet(files, counter), size)
    batch.states.reset()
    if "top_k" in batch.buffers:
        batch.write("top_k", 1)
    batch.write("col", manifest.width // 2)
    batch.run_row(manifest.height // 2)
    batch.bound("step").run()
    return counter, {part: list(counter.products(part)) for part in PARTS}


class Floors:
    """Times the products of a row and a step of `size` slots, and the memory, a little whenever it is asked to."""

    def __init__(self, files: ExportFiles, engine: Backend, size: int, memory: StreamingRead) -> None:
        counter, self.products = count_products(files, size)
        self._manifest, self._size, self._memory = files.manifest, size, memory
        self._found: dict[Shape, tuple[BoundGraph, int]] = {}
        for product in (one for part in PARTS for one in self.products[part]):
            if product.shape not in self._found:
                copies = _copies(product)
                bound = counter.repeated(product, copies, engine)
                bound.run()  # the first run allocates
                self._found[product.shape] = bound, copies
        self._seconds: dict[Shape, list[float]] = {shape: [] for shape in self._found}
        self._reads = [memory.seconds_per_byte()]

    def measure(self) -> None:
        """Time every shape once, and one reading of memory."""
        for shape, (bound, copies) in self._found.items():
            started = perf_counter()
            bound.run()
            self._seconds[shape].append((perf_counter() - started) / copies)
        self._reads.append(self._memory.seconds_per_byte())

    def found(self) -> dict[str, Any]:
        """Of each part: what it multiplies and reads, and its floor in milliseconds; and the two rates."""
        per_byte = min(self._reads)
        seconds = {shape: min(times) for shape, times in self._seconds.items()}
        parts = {part: self._part(part, seconds, per_byte) for part in PARTS}
        return {**parts, "memory_gb_per_s": 1e-9 / per_byte, "measured_times": len(self._reads) - 1}

    def _part(self, part: str, seconds: Mapping[Shape, float], per_byte: float) -> dict[str, Any]:
        products = self.products[part]
        bytes_read = read_bytes(self._manifest, self._size, part, products)
        multiplying = sum(seconds[product.shape] for product in products) * 1e3
        reading = bytes_read * per_byte * 1e3
        total = sum(product.multiplications for product in products)
        shapes = Counter((product.shape, str(product)) for product in products)
        return {
            "floor_ms": max(multiplying, reading), "multiplying_ms": multiplying, "reading_ms": reading,
            "multiplications": total, "bytes_read": bytes_read,
            "gflop_per_s": 2e-6 * total / multiplying if multiplying else None,
            "products": [
                {"what": what, "count": count, "ms": seconds[shape] * 1e3,
                 "gflop_per_s": 2e-9 * _multiplications(shape) / seconds[shape]}
                for (shape, what), count in sorted(shapes.items(), key=lambda item: -_multiplications(item[0][0]))
            ],
        }  # fmt: skip


def read_bytes(manifest: Manifest, size: int, part: str, products: Sequence[Product]) -> int:
    """Bytes that the products of a part read from memory: weights, and the keys and values of `size` slots.

    ONNX files tell it product by product. An archive does not: there it is all weights of the part, and of the step the
    states that hold keys and values.
    """
    told = [(product.weight_bytes, product.value_bytes) for product in products]
    if all(weights is not None and values is not None for weights, values in told):
        return sum((weights or 0) + (values or 0) for weights, values in told)
    weights = (manifest.parameters.per_row if part == "row" else manifest.parameters.per_step) * ITEM_BYTES["float32"]
    held = sum(spec.bytes_per_slot for spec in manifest.states if spec.role in ("keys", "values"))
    return weights + (size * held if part == "step" else 0)


def _copies(product: Product) -> int:
    """How many of the same product make a run that is long enough to be timed."""
    batch, m, k, n = product.shape
    held = 4 * batch * (m * k + m * n + (0 if product.weight_bytes else k * n))
    return max(1, min(ENOUGH // max(product.multiplications, 1), MOST_COPIES, MOST_BYTES // max(held, 1)))


def _multiplications(shape: Shape) -> int:
    batch, m, k, n = shape
    return batch * m * k * n
