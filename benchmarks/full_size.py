"""The full-size run: export and verify a prior of the stock shape, and look at its memory and at what it copies.

    python benchmarks/full_size.py                                the stock top prior (32x32, 84.9 M random parameters)
    python benchmarks/full_size.py --arch h12_noup_smallkey       a published PixelSNAIL of images, random parameters
    python benchmarks/full_size.py --checkpoint top.pt            a checkpoint of yours
    python benchmarks/full_size.py --work out/bench --reuse       without exporting again

Memory and the export are measured in processes of their own. How fast it is, `benchmarks/compare` and the command
`pixelsnail-infer bench` say.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from pixelsnail_infer.manifest import sibling_path
from pixelsnail_infer.models.snail_config import NAMED
from pixelsnail_infer.runtime import Sampler, load

HERE = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="default: random weights of the stock top prior, in --work")
    parser.add_argument("--arch", choices=sorted(NAMED), help="random weights of this published PixelSNAIL instead")
    parser.add_argument("--work", type=Path, default=Path("out/full-size"), help="folder for the files")
    parser.add_argument("--reuse", action="store_true", help="use the graphs that --work already holds")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the engine (default: all cores)")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        return _sample_alone(args.memory_of, args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {args.threads} threads, "
          f"load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    checkpoint = args.checkpoint or _stock(args.work, args.arch)
    step = args.work / "model.onnx"
    if not (args.reuse and step.exists()):
        _export(checkpoint, step)
    _memory(step, args.threads)
    _profile(step, args.threads)
    return 0


def _stock(work: Path, arch: str | None) -> Path:
    path = work / f"{arch or 'stock'}.pt"
    script = ["make_stock_snail.py", path, "--arch", arch] if arch else ["make_stock_prior.py", path]
    if not path.exists():
        subprocess.run([sys.executable, HERE.parent / "examples" / script[0], *script[1:]], check=True)
    return path


def _export(checkpoint: Path, step: Path) -> None:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "pixelsnail_infer.export.cli", str(checkpoint), str(step)], check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"export and verification: {time.perf_counter() - started:.0f} s, peak memory {peak:.1f} GiB")


def _memory(step: Path, threads: int) -> None:
    """Peak memory of a process that loads the graphs and draws one image, against weights and states."""
    command = [sys.executable, __file__, "--memory-of", str(step), "--threads", str(threads)]
    peak, states = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    weights = sum(p.stat().st_size for p in (step, sibling_path(step, "row")))
    bound = 3 * weights + states
    print(f"one image, alone: peak memory {peak / 2**20:.0f} MiB; weights {weights / 2**20:.0f} MiB, states "
          f"{states / 2**20:.1f} MiB: {'within' if peak <= bound else 'OVER'} three times the weights plus the states")


def _sample_alone(step: Path, threads: int) -> int:
    with load(step, threads=threads) as sampler:
        sampler.sample(1, seed=0, **_conditions(sampler, 1))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps([peak, sampler.state_bytes(1)]))
    return 0


def _conditions(sampler: Sampler, n: int) -> dict[str, np.ndarray]:
    return {spec.name: np.zeros((n, *spec.shape), spec.dtype) for spec in sampler.manifest.conditions}


def _profile(step: Path, threads: int) -> None:
    """Every node of the step whose result is as large as a cache, by the engine's own profile: there should be none."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        options.intra_op_num_threads = threads
        session = ort.InferenceSession(str(step), options, providers=["CPUExecutionProvider"])
        binding, values = session.io_binding(), {}
        types = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(bool)": np.bool_}
        for item in (*session.get_inputs(), *session.get_outputs()):
            name = item.name.removesuffix(".out")
            if name not in values:
                shape = [1 if isinstance(size, str) else size for size in item.shape]
                values[name] = ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, types[item.type]))
        for item in session.get_inputs():
            binding.bind_ortvalue_input(item.name, values[item.name])
        for item in session.get_outputs():
            binding.bind_ortvalue_output(item.name, values[item.name.removesuffix(".out")])
        for _ in range(50):
            session.run_with_iobinding(binding)
        events = json.loads(Path(session.end_profiling()).read_text())
        caches = [value.numpy().nbytes for name, value in values.items() if name.startswith("state.")]
    times: dict[tuple[str, str], list[int]] = defaultdict(list)
    copies: set[str] = set()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            kind = event["args"]["op_name"]
            times[kind, event["name"]].append(event["dur"])
            if kind != "TensorScatter" and int(event["args"].get("output_size", 0)) >= max(caches):
                copies.add(event["name"])
    totals: dict[str, float] = defaultdict(float)
    for (kind, _), durations in times.items():
        totals[kind] += statistics.median(durations)
    shown = ", ".join(f"{kind} {total:.0f}" for kind, total in sorted(totals.items(), key=lambda item: -item[1])[:8])
    print(f"profile of a step at batch 1, {len(times)} nodes, microseconds by kind: {shown}")
    scatters = [statistics.median(v) for (kind, _), v in times.items() if kind == "TensorScatter"]
    print(f"state writes: {len(scatters)}, the slowest {max(scatters):.0f} us for states of up to "
          f"{max(caches) / 2**20:.1f} MiB; nodes with a result as large: {sorted(copies) or 'none'}")


if __name__ == "__main__":
    sys.exit(main())
