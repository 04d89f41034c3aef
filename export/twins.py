"""The twins of an export of less than float32: the same graphs in float32, and as an engine runs them that rounds.

Less precision is proven within wide limits, in which a mistake of the graphs could hide. So the same analysis is also
written in float32 and proven as such exports are; the precision is all that the two differ in.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from pixelsnail_infer.bits import BitsSpec
from pixelsnail_infer.export.artifacts import Artifacts
from pixelsnail_infer.export.compile import Compiled
from pixelsnail_infer.export.proofs.bits import SEED, Images, drawn_images, measured_bits
from pixelsnail_infer.export.proofs.reference import Reference
from pixelsnail_infer.export.proofs.verify import Check, verify_files
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.plan import DEFAULT_PLAN, INT8_PLAN
from pixelsnail_infer.runtime import Sampler, load

__all__ = ["prove_cost", "prove_plain"]

Hear = Callable[[str], None]


def prove_plain(compiled: Compiled, folder: Path, targets: Mapping[str, Path], manifest: Manifest, reference: Reference,
                say: Hear) -> tuple[list[Check], list[Images]]:
    """Write the same graphs in float32 below `folder` and prove them, in every format. Gives also images that they
    draw and, for int8, others that calibrate.

    Raises `VerificationError`.
    """
    say("the same graphs in float32")
    plan = replace(compiled.plan, precision=DEFAULT_PLAN.precision)
    twin = Artifacts(replace(compiled, plan=plan), _made(folder / "float32"), targets)
    twin.write(replace(manifest, precision=plan.precision))
    checks, drawn, seeds = [], list[Images](), (SEED, SEED + 1) if compiled.plan == INT8_PLAN else (SEED,)
    for one in targets:
        with load(twin.path(one), kind="prior") as opened:
            name = "the same in float32" + (f", {one}" if len(targets) > 1 else "")
            checks.append(_summary(name, verify_files(opened, reference, say)))
            drawn = drawn or [drawn_images(opened, reference, seed) for seed in seeds]
    shutil.rmtree(twin.folder)
    return checks, drawn


def prove_cost(sampler: Sampler, artifacts: Artifacts, format: str, reference: Reference, images: Images, limit: float,
               say: Hear) -> tuple[list[Check], BitsSpec]:
    """What the files of a format, `sampler`, cost in bits per dimension because they are of less than float32.

    Raises `VerificationError`, also where the bits per dimension of the images change by a share of more than `limit`.
    """
    checks = list[Check]()
    if format != "torchscript":  # ONNX Runtime leaves out roundings between its nodes, or joins them with products
        checks.append(_rounded(artifacts, sampler.manifest, reference, say))
    check, bits = measured_bits(sampler, reference, images, limit, say)
    return [*checks, check], bits


def _rounded(artifacts: Artifacts, manifest: Manifest, reference: Reference, say: Hear) -> Check:
    say(f"the same graphs in PyTorch, rounded to {manifest.precision} wherever they say so")
    twin = Artifacts(artifacts.compiled, _made(artifacts.folder / "rounded"), {"torchscript": Path("twin.pt")})
    twin.write(manifest)
    with load(twin.path("torchscript"), kind="prior") as opened:
        check = _summary("the same, all rounded", verify_files(opened, reference, say))
    shutil.rmtree(twin.folder)
    return check


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _summary(name: str, checks: list[Check]) -> Check:
    """The worst of replays and scores, which have one limit."""
    close = [check for check in checks if check.name.startswith(("replay", "score"))]
    worst = max(close, key=lambda check: check.value)
    return replace(worst, name=name, detail=f"worst of {len(checks)} proofs: {worst.name}")
