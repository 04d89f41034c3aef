"""How much faster a row is in Winograd's form: a stock prior's whole row graph, and single layers of any shape.

    python benchmarks/winograd.py                                         the stock top prior, batches of 1, 4, 16, 64
    python benchmarks/winograd.py --layers 32x256x256x2x5,32x512x512x1x3  columns x in x out x rows above x taps a row

Random weights, ONNX Runtime. The plain graph and the other one run in turns; times are medians. Of a layer there are as
many as --copies says, with weights of their own, since one alone would lie in the caches. `auto` says whether exports
take the form for it.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

from pixelsnail_infer.export.analysis.row_forms import DEFAULT_ROW_FORM, PLAIN, WINOGRAD, RowProduct
from pixelsnail_infer.export.artifacts import build_part
from pixelsnail_infer.export.compile import compile_model
from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.graph import Graph
from pixelsnail_infer.export.emission.winograd import emit_winograd
from pixelsnail_infer.export.fields import Edge, Node
from pixelsnail_infer.export.tracing.trace import InputSpec
from pixelsnail_infer.export.tracing.traced import Where
from pixelsnail_infer.export.writing.onnx_writer import write_onnx
from pixelsnail_infer.models import Prior, PriorConfig

TOP = PriorConfig(shape=(32, 32), levels=512, channel=256, kernel_size=5, n_block=4, n_res_block=4, res_channel=256)
DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
FEWEST = 5  # runs of each graph


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", help="such as 32x256x256x2x5, joined by commas; the stock prior is left out then")
    parser.add_argument("--batches", default="1,4,16,64")
    parser.add_argument("--copies", type=int, default=24, help="of a layer (default 24)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each line (default 10)")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.manual_seed(0)
    for name, graphs in stock() if args.layers is None else layers(args.layers.split(","), args.copies):
        sessions = [opened(graph, args.threads) for graph in graphs]
        for size in map(int, args.batches.split(",")):
            plain, other = in_turns([bound(session, size) for session in sessions], args.seconds)
            print(f"{name}, batch {size}: plain {plain * 1e3:.2f} ms, Winograd {other * 1e3:.2f} ms, "
                  f"{plain / other:.2f} times faster", flush=True)


def stock() -> list[tuple[str, list[Graph]]]:
    """The row graphs of the stock top prior without a condition."""
    specs = (InputSpec("pixels", TOP.shape, torch.int64, TOP.levels),)
    compiled = compile_model(Prior(TOP).eval(), lambda module, pixels: module(pixels), specs, TOP.shape)
    forms = (PLAIN, DEFAULT_ROW_FORM)
    return [("stock top prior", [build_part(replace(compiled, row_form=form), "row") for form in forms])]


def layers(shapes: Sequence[str], copies: int) -> list[tuple[str, list[Graph]]]:
    found = []
    for shape in shapes:
        width, taken, given, rows, taps = map(int, shape.split("x"))
        products = [layer(width, taken, given, rows, taps) for _ in range(copies)]
        taken_by = "auto" if products[0].form(DEFAULT_ROW_FORM) else "not auto"
        found.append((f"{shape} ({taken_by})", [layer_graph(products, form) for form in (PLAIN, WINOGRAD)]))
    return found


def layer(width: int, taken: int, given: int, rows: int, taps: int) -> RowProduct:
    """A convolution of rows above."""
    where = Where("layer", "conv2d", "")
    source = Node("map", [], (width, width), (taken,), torch.float32, where, pixel=True)
    weights = {(dy, dx): torch.randn(given, taken) for dy in range(-rows, 0) for dx in range(taps)}
    node = Node("linear", [Edge(source)], (width, width), (given,), torch.float32, where, attrs={"taps": weights})
    return RowProduct(node, tuple(weights), width)


def layer_graph(products: Sequence[RowProduct], choice: str) -> Graph:
    """The layers side by side, each of a canvas's members, gathered as row graphs gather them."""
    g, one = GraphBuilder("row"), products[0]
    width, rows, across = one.width, len(one.rows), len(one.offsets) // len(one.rows)
    taken, given = one.sizes[0] // len(one.offsets), one.sizes[1]
    stride = width + across - 1
    canvas = g.input("canvas", "float", ["B", len(products), rows * stride, taken])
    start = g.unsqueeze(g.input("row", "int", ["B"]), 1, 2, 3)
    lines, results = torch.arange(rows) * stride, []
    for member, one in enumerate(products):
        form = one.form(choice)
        columns = form.columns if form else torch.arange(width)[:, None] + torch.arange(across)
        places = columns[:, :, None] + lines if form else columns[:, None] + lines[:, None]
        address = g.mul(g.unsqueeze(g.add(start, places[None]), 4), [0, 1])
        cells = g.gather_cells(canvas, g.add(address, [member, 0]))
        if form:
            results.append(emit_winograd(g, form, g.reshape(cells, [0, 0, 0, rows * taken]), one.weights(form)))
        else:
            weight = torch.cat([tap.T for tap in one.node.attrs["taps"].values()])
            results.append(g.matmul(g.reshape(cells, [0, 0, len(weight)]), weight))
    g.output("row_result", g.concat(results, 2), ["B", width, len(products) * given])
    return g.graph()


def opened(graph: Graph, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return ort.InferenceSession(write_onnx(graph, {}).SerializeToString(), options, providers=["CPUExecutionProvider"])


def bound(session: ort.InferenceSession, size: int) -> Callable[[], Any]:
    """A run of the graph on zeros; states are written in place, as the runtime does it."""
    binding = session.io_binding()
    held = {entry.name: ort.OrtValue.ortvalue_from_numpy(np.zeros([size, *entry.shape[1:]], DTYPES[entry.type]))
            for entry in session.get_inputs()}
    for name, value in held.items():
        binding.bind_ortvalue_input(name, value)
    for entry in session.get_outputs():
        state = held.get(entry.name.removesuffix(".out"))
        binding.bind_output(entry.name) if state is None else binding.bind_ortvalue_output(entry.name, state)
    return lambda: session.run_with_iobinding(binding)


def in_turns(runs: Sequence[Callable[[], Any]], seconds: float) -> list[float]:
    """The median of each."""
    for run in runs:
        run()
    found: list[list[float]] = [[] for _ in runs]
    until = perf_counter() + seconds
    while perf_counter() < until or len(found[0]) < FEWEST:
        for run, times in zip(runs, found, strict=True):
            started = perf_counter()
            run()
            times.append(perf_counter() - started)
    return [statistics.median(times) for times in found]


if __name__ == "__main__":
    main()
