"""Every check that needs a GPU, in one script that needs no network: what an engine computes and draws on the device,
and how long it takes, beside what people do today.

    python benchmarks/gpu_check -o out/gpu                        all of it, with what the machine has
    python benchmarks/gpu_check -o out/gpu --models digits,top --batches 1,64
    python benchmarks/gpu_check -o out/gpu --wheels wheels/       with engines from the wheels in a folder
    python benchmarks/gpu_check -o out/cpu --device cpu --models small --batches 1   a rehearsal

PyTorch and NumPy are enough for the Torch backend; writing ONNX files needs onnx, and running them an engine. Networks
of full size have random weights, made here. Writes report.json and report.md; exits with 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pixelsnail_infer.errors import BackendError, ModelError

ENGINES = ("torch", "onnxruntime", "tensorrt")
MODELS = ("digits", "top", "bottom", "rgb", "pixelcnnpp", "decoder")
PRECISIONS = ("float32", "float16", "bfloat16")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the report and the files")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu for a rehearsal (default cuda)")
    parser.add_argument("--models", default=",".join(MODELS),
                        help=f"of {', '.join(MODELS)}; or small, small-pixelcnnpp and small-decoder, for rehearsals")
    parser.add_argument("--engines", default=",".join(ENGINES), help=f"of {', '.join(ENGINES)} (default all)")
    parser.add_argument("--precisions", default="float32,float16", help=f"of {', '.join(PRECISIONS)}")
    parser.add_argument("--batches", default="1,8,64,256", help="batch sizes (default 1,8,64,256)")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to install into a temporary folder first")
    parser.add_argument("--compiled", action="store_true", help="time torch.compile too, which takes minutes")
    parser.add_argument("--no-proofs", action="store_true", help="leave out what holds logits to PyTorch on the CPU")
    parser.add_argument("--limit-s", type=float, default=1e9, help="begin no further part after so many seconds")
    return parser.parse_args()


def install(wheels: Path) -> None:
    """Install what is in the folder, and no dependencies, where only this process looks for it, and first."""
    target = tempfile.mkdtemp(prefix="gpu-check-")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", target]
    subprocess.run([*command, *map(str, sorted(wheels.glob("*.whl")))], check=True)
    sys.path.insert(0, target)


class Parts:
    """Runs parts, each by itself: what one lacks or breaks ends no other."""

    def __init__(self, report: Any, limit: float) -> None:
        self.report, self.end = report, time.monotonic() + limit

    def run(self, name: str, work: Callable[[], dict[str, Any]]) -> None:
        """Add what the part found, or say why it did not run."""
        if time.monotonic() > self.end:
            self.report.lack(name, "the time given by --limit-s was over")
            return
        try:
            started = time.monotonic()
            self.report.add(name, {**work(), "took_s": round(time.monotonic() - started, 1)})
        except (BackendError, ImportError, ModelError) as error:
            self.report.lack(name, error)
        except Exception as error:  # of any engine or library: the report is what this is for
            traceback.print_exc()
            self.report.add(name, {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"})


def main() -> int:
    args = arguments()
    if args.wheels:
        install(args.wheels)
    args.out.mkdir(parents=True, exist_ok=True)
    import decoders  # after the wheels: both import engines
    import priors
    from report import Report

    report = Report(args.out / "report.json", args.device)
    parts = Parts(report, args.limit_s)
    for name in filter(None, args.models.split(",")):
        if name in decoders.SIZES:
            decoders.check(name, args, parts)
        else:
            priors.check(name, args, parts)
    (args.out / "report.md").write_text(report.table() + "\n")
    print(report.table())
    if report.failed:
        print("WRONG: " + ", ".join(report.failed))
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
