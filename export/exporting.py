"""Export one model: compile, prove, write, prove the files, move them into place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from pixelsnail_infer import __version__
from pixelsnail_infer.distributions import Categorical, Distribution, specs_of
from pixelsnail_infer.errors import ModelError, VerificationError
from pixelsnail_infer.export.analysis.row_forms import (
    DEFAULT_ROW_FORM,
    PLAIN,
    ROW_FORMS,
    layers_in_winograd,
    saving,
)
from pixelsnail_infer.export.artifacts import Artifacts, staging_folder
from pixelsnail_infer.export.calibration import calibrated
from pixelsnail_infer.export.compile import Compiled
from pixelsnail_infer.export.exported import Exported
from pixelsnail_infer.export.plans import check_prior_plan
from pixelsnail_infer.export.proofs.bits import Images, given_images
from pixelsnail_infer.export.proofs.reference import Reference
from pixelsnail_infer.export.proofs.verify import Check, verify_before, verify_files
from pixelsnail_infer.export.proofs.verify_waves import verify_wave_files, verify_wave_order
from pixelsnail_infer.export.schedules import DEFAULT_SCHEDULE, check_schedule, waves_noted
from pixelsnail_infer.export.source.declared import Conditions, condition_specs
from pixelsnail_infer.export.staging import staged
from pixelsnail_infer.export.tracing.forward import Forward, ForwardFunction
from pixelsnail_infer.export.tracing.fresh import unwrapped
from pixelsnail_infer.export.tracing.own_caches import forget_fakes
from pixelsnail_infer.export.twins import prove_cost, prove_plain
from pixelsnail_infer.export.writing.formats import DEFAULT_FORMAT, check_outputs
from pixelsnail_infer.manifest import (
    CheckpointSpec,
    ConditionSpec,
    FileSpec,
    Manifest,
    ModelSpec,
    NoiseSpec,
    ParameterSpec,
    RowResultSpec,
)
from pixelsnail_infer.noise import NOISE_VERSION
from pixelsnail_infer.plan import DEFAULT_PLAN, INT8_PLAN, Plan
from pixelsnail_infer.runtime import load

__all__ = ["export_model", "module_sha256"]

CALIBRATING = 32  # images
ZERO_TAPS = "Taps that are zero in this checkpoint were left out; another checkpoint of the architecture may have more."


def export_model(
    module: torch.nn.Module,
    target: str | Path,
    *,
    levels: int | None = None,
    distribution: Distribution | None = None,
    shape: tuple[int, int],
    forward: ForwardFunction | None = None,
    conditions: Conditions = (),
    family: str = "custom",
    config: dict[str, Any] | None = None,
    checkpoint_sha256: str | None = None,
    notes: Sequence[str] = (),
    plan: Plan = DEFAULT_PLAN,
    format: str = DEFAULT_FORMAT,
    schedule: str = DEFAULT_SCHEDULE,
    codes: str | os.PathLike[str] | None = None,
    calibrate: str | os.PathLike[str] | None = None,
    max_bpd_change: float = 1.0,
    row_form: str = DEFAULT_ROW_FORM,
    say: Callable[[str], None] = lambda line: None,
) -> Exported[Manifest]:
    """Export a causal model and verify it; `target` is the step file, its siblings lie beside it. In the `format`
    "torchscript" it is one archive of all parts, whose name ends in .pt. "both" writes the two beside each other from
    one analysis, all files or none: `target` is called like either, and the result has the manifest of the ONNX files.

    Give `levels` for a model of codes, or a `distribution` (`LogisticMixture` for channels), and `shape`, (H, W).
    `forward(module, pixels, conditions)` gives logits float `[B, levels, H, W]` for codes int64 `[B, H, W]`, or the
    mixture's parameters `[B, n, H, W]` for images float `[B, C, H, W]` in [-1, 1]; of a tuple the first element is
    taken. The default is `module(pixels, **conditions)`. `conditions`, a dict of tensors there, are declared here by
    name: `{"label": "class:10", "condition": "codes:32x32:512", "style": "vector:512", "depth": "map:1x32x32"}`, or as
    `ConditionSpec`s. Classes and codes are int64 `[B]` and `[B, h, w]`, vectors and maps float `[B, n]` and `[B, C, h,
    w]`. `plan` says how the graphs compute; `say` hears what is going on.

    `schedule` says whether there are also graphs that draw one pixel of many rows at a time, as networks without
    attention over pixels permit: "auto" and "both" where it is possible, and the runtime chooses; "wavefront" refuses
    other networks, and the runtime takes it; "raster" has none.

    With less than float32 the change in bits per dimension is measured, on the images in the file `codes` (.npy, or
    .npz with conditions, see `proofs.bits`) or on drawn ones; more than `max_bpd_change` percent are refused. The
    scales of int8 come from the first 32 images of the file `calibrate`, or of other drawn ones.

    `row_form`: which products of the row graph take Winograd's form, which needs fewer multiplications: "auto", those
    that it makes faster at every batch size; "plain", none; "winograd", all that have one. Less than float32 is plain.

    The module is copied and never changed. Nothing is left behind when anything fails. Verification needs ONNX Runtime
    for the formats "onnx" and "both".
    Not for several threads at once: while it works, PyTorch's default dtype is another at times.

    Raises `NotCausalError`, `UnsupportedOpError`, `ModelError`, `VerificationError`, or `PixelsnailError` when the
    files cannot be written.
    """
    outputs = check_outputs(Path(target), format)
    for one in outputs:
        check_prior_plan(plan, one)
    waveless = check_schedule(schedule, plan, outputs)
    rounded = plan.precision != DEFAULT_PLAN.precision
    if codes is not None and not rounded:
        raise ModelError(f"codes are for measuring what less than {plan.precision} costs; leave them out.")
    if calibrate is not None and plan != INT8_PLAN:
        raise ModelError(f"calibrate is for int8; leave it out for {plan.precision}.")
    _check_row_form(row_form, plan)
    target, module, law, shape = Path(target), unwrapped(module), _distribution(levels, distribution), _canvas(shape)
    specs = condition_specs(conditions)
    call = Forward(forward)
    call.check_names(module, [spec.name for spec in specs])
    forget_fakes(module)
    begun = partial(_manifest, module, law, shape, specs, plan, family, config, checkpoint_sha256)
    images, peaks = (None if path is None else given_images(path, begun(notes), name)
                     for path, name in ((codes, "codes"), (calibrate, "calibrate")))
    with staging_folder(target, format) as folder:
        reference = Reference(module, call, shape, law, specs)
        compiled, checks = staged(module, call, reference, say, plan, schedule != "raster" and not waveless)
        noted = waves_noted(schedule, waveless, compiled)
        for line in noted:
            say(line)
        checks += verify_before(compiled, reference, say)
        if compiled.wave is not None:
            checks += verify_wave_order(compiled.wave, reference, say)
        seen = (call.picked,) if call.picked else ()
        begin = begun((*notes, *seen, *noted))
        if rounded:
            compiled.row_form = row_form = PLAIN
            found, drawn = prove_plain(compiled, folder, outputs, begin, reference, say)
            checks, images = [*checks, *found], images or drawn[0]
            if plan == INT8_PLAN:  # not from the images that show what it costs
                compiled = calibrated(compiled, (peaks or drawn[1]).first(CALIBRATING), say)
        prove = partial(_written, compiled, folder, outputs, begin, checks, reference, images, max_bpd_change / 100,
                        schedule == "wavefront", say)
        try:
            artifacts, manifests, checks = prove(row_form)
        except VerificationError as error:
            if row_form != DEFAULT_ROW_FORM or saving(compiled.program, row_form) is None:
                raise
            say(f"without Winograd's form, because with it: {error}")
            artifacts, manifests, checks = prove(PLAIN)
        files = artifacts.publish()
    return Exported(manifests[0], tuple(files), tuple(checks), seen)


def _written(compiled: Compiled, folder: Path, outputs: Mapping[str, Path], begin: Manifest, before: Sequence[Check],
             reference: Reference, images: Images | None, limit: float, preferred: bool, say: Callable[[str], None],
             row_form: str) -> tuple[Artifacts, list[Manifest], list[Check]]:
    """The files, the row graph in a form of `ROW_FORMS`, written and proven; their manifests and all proofs."""
    compiled = replace(compiled, row_form=row_form)
    if (note := saving(compiled.program, row_form)) is not None:
        for line in (note, *layers_in_winograd(compiled.program, row_form)):
            say(line)
        begin = replace(begin, notes=(*begin.notes, note))
    artifacts = Artifacts(compiled, folder, outputs, preferred=preferred)
    say("writing the graphs")
    return artifacts, *_proven(artifacts, artifacts.write(begin), before, reference, images, limit, say)


def _proven(artifacts: Artifacts, written: Mapping[str, Manifest], before: Sequence[Check], reference: Reference,
            images: Images | None, limit: float, say: Callable[[str], None]) -> tuple[list[Manifest], list[Check]]:
    """The written files of every format proven, with the proofs in their manifests; and all proofs. `images` show what
    less than float32 costs."""
    manifests, checks = [], list(before)
    for one, manifest in written.items():
        which, bits = f"{one}: " if len(written) > 1 else "", None
        hear = partial(_marked, say, which)
        with load(artifacts.path(one), kind="prior", schedule="raster") as sampler:
            found = verify_files(sampler, reference, hear)
            if images is not None:
                more, bits = prove_cost(sampler, artifacts, one, reference, images, limit, hear)
                found += more
        if manifest.wave is not None:
            with load(artifacts.path(one), kind="prior", schedule="wavefront") as sampler:
                found += verify_wave_files(sampler, reference, hear)
        manifest = replace(manifest, verification=_report([*before, *found]), bits_per_dim=bits)
        manifests.append(artifacts.describe(one, manifest))
        checks += [replace(check, name=which + check.name) for check in found]
    return manifests, checks


def _check_row_form(row_form: str, plan: Plan) -> None:
    if row_form not in ROW_FORMS:
        raise ModelError(f"row_form is {row_form!r}, expected {', '.join(map(repr, ROW_FORMS[:-1]))} or "
                         f"{ROW_FORMS[-1]!r}.")
    if row_form not in (DEFAULT_ROW_FORM, PLAIN) and plan.precision != DEFAULT_PLAN.precision:
        raise ModelError(f"the row form {row_form!r} is for {DEFAULT_PLAN.precision}, and {plan.precision} would round "
                         "what it transforms; leave it out.")


def _marked(say: Callable[[str], None], which: str, line: str) -> None:
    say(which + line)


def _report(checks: Sequence[Check]) -> dict[str, Any]:
    """The checks as JSON."""
    return {check.name: {k: v for k, v in asdict(check).items() if k != "name"} for check in checks}


def _distribution(levels: int | None, distribution: Distribution | None) -> Distribution:
    if (levels is None) == (distribution is None):
        raise ModelError("give levels for a model of codes, or a distribution: one of the two.")
    if distribution is not None:
        return distribution
    if not _positive(levels):
        raise ModelError(f"levels is {levels!r}, expected the number of codes, 1 or more.")
    return Categorical(int(levels or 0))


def _canvas(shape: tuple[int, int]) -> tuple[int, int]:
    if len(shape) != 2 or not all(_positive(size) for size in shape):
        raise ModelError(f"shape is {shape!r}, expected the rows and columns of the canvas, such as (32, 32).")
    return int(shape[0]), int(shape[1])


def _positive(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and int(value) > 0


def _manifest(module: torch.nn.Module, law: Distribution, shape: tuple[int, int],
              conditions: Sequence[ConditionSpec], plan: Plan, family: str, config: dict[str, Any] | None,
              sha256: str | None, notes: Sequence[str]) -> Manifest:
    """The manifest as far as it is known before the files are."""
    total = sum(p.numel() for p in module.parameters())
    pending = dict.fromkeys(("row", "prologue") if conditions else ("row",), FileSpec("0" * 64, 1))
    pixel, spec = specs_of(law)
    return Manifest(
        kind="prior", model=ModelSpec(family, config or {}), pixel=pixel,
        shape=(int(shape[0]), int(shape[1])), conditions=tuple(conditions), prologue=(), states=(),
        row_result=RowResultSpec(1), distribution=spec,
        noise=NoiseSpec(NOISE_VERSION, law.noise_width), schedule=plan.schedule, target=plan.target,
        precision=plan.precision, files=pending, checkpoint=CheckpointSpec(sha256 or module_sha256(module)),
        parameters=ParameterSpec(total, 0, 0, 0),
        versions={"pixelsnail_infer": __version__, "torch": str(torch.__version__), "onnx": onnx.__version__},
        notes=(ZERO_TAPS, *notes))


def module_sha256(module: torch.nn.Module) -> str:
    """A digest of all parameters and buffers, for models that come without a file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
    return digest.hexdigest()
