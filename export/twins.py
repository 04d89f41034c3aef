"""The twins of an export in half precision: the same graphs in float32, and as an engine runs them that rounds.

Half precision is proven within wide limits, in which a mistake of the graphs could hide. So the same analysis is also
written in float32 and proven as such exports are; the precision is all that the two differ in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pixelsnail_infer.bits import BitsSpec
from pixelsnail_infer.export.artifacts import Artifacts
from pixelsnail_infer.export.proofs.bits import Images, drawn_images, measured_bits
from pixelsnail_infer.export.proofs.reference import Reference
from pixelsnail_infer.export.proofs.verify import Check, verify_files
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.plan import DEFAULT_PLAN
from pixelsnail_infer.runtime import Sampler, load

__all__ = ["prove_twins"]

Hear = Callable[[str], None]


def prove_twins(sampler: Sampler, artifacts: Artifacts, format: str, reference: Reference, images: Images | None,
                limit: float, say: Hear) -> tuple[list[Check], BitsSpec]:
    """The proofs that an export needs beyond those of its files, `sampler`, because it is of less than float32; and
    what that costs in bits per dimension, on `images` or on such as the float32 twin draws.

    Raises `VerificationError`, also where the bits per dimension change by a share of more than `limit`.
    """
    manifest, checks = sampler.manifest, list[Check]()
    say("the same graphs in float32")
    plain = replace(artifacts.compiled, plan=replace(artifacts.compiled.plan, precision=DEFAULT_PLAN.precision))
    twin = Artifacts(plain, _folder(artifacts, f"float32.{format}"), {format: artifacts.targets[format]})
    twin.write(replace(manifest, precision=DEFAULT_PLAN.precision))
    with load(twin.path(format)) as opened:
        checks.append(_summary("the same in float32", verify_files(opened, reference, say)))
        images = images or drawn_images(opened, reference)
    if format != "torchscript":  # ONNX Runtime leaves out roundings between its nodes, which GPUs do not
        checks.append(_rounded(artifacts, manifest, reference, say))
    check, bits = measured_bits(sampler, reference, images, limit, say)
    return [*checks, check], bits


def _rounded(artifacts: Artifacts, manifest: Manifest, reference: Reference, say: Hear) -> Check:
    say(f"the same graphs in PyTorch, every result rounded to {manifest.precision}")
    twin = Artifacts(artifacts.compiled, _folder(artifacts, "rounded"), {"torchscript": Path("twin.pt")})
    twin.write(manifest)
    with load(twin.path("torchscript")) as opened:
        return _summary("the same, all rounded", verify_files(opened, reference, say))


def _folder(artifacts: Artifacts, name: str) -> Path:
    folder = artifacts.folder / name
    folder.mkdir()
    return folder


def _summary(name: str, checks: list[Check]) -> Check:
    """The worst of replays and scores, which have one limit."""
    close = [check for check in checks if check.name.startswith(("replay", "score"))]
    worst = max(close, key=lambda check: check.value)
    return replace(worst, name=name, detail=f"worst of {len(checks)} proofs: {worst.name}")
