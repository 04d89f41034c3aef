"""What the commands print of an export: what was seen, stages, proofs, files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pixelsnail_infer.codec import CodecManifest
from pixelsnail_infer.denoiser import DenoiserManifest
from pixelsnail_infer.export.exported import Exported
from pixelsnail_infer.export.proofs.verify import Check
from pixelsnail_infer.manifest import Manifest

__all__ = ["checks_table", "report"]


def report(result: Exported[Manifest | CodecManifest | DenoiserManifest]) -> str:
    """The whole of what was written and proven."""
    manifest = result.manifest
    numbers = stages_table(manifest) if isinstance(manifest, Manifest) else \
        f"parameters of the {manifest.kind}: {manifest.parameters:,}"
    seen = [f"  {note}" for note in result.seen]
    return "\n".join([*seen, numbers, checks_table(result.checks), files_table(result.files)])


def stages_table(manifest: Manifest) -> str:
    """How many of the model's numbers are read how often."""
    parameters = manifest.parameters
    rows = [("per image", parameters.per_image, "conditions (prologue)"), ("per row", parameters.per_row, "rows above"),
            ("per step", parameters.per_step, "the current row")]
    lines = [f"stages ({parameters.total:,} parameters in the checkpoint)"]
    lines += [f"  read {when:<10} {count:>14,}   {what}" for when, count, what in rows]
    return "\n".join(lines)


def checks_table(checks: Sequence[Check]) -> str:
    """The proofs, a line each."""
    width = max(len(check.name) for check in checks)
    lines = ["verification against PyTorch", f"  {'':<{width}}  {'worst':>9}  {'limit':>7}"]
    lines += [f"  {c.name:<{width}}  {c.value:>9.2e}  {c.limit:>7.0e}  {'ok' if c.passed else 'FAILED'}   {c.detail}"
              for c in checks]
    return "\n".join(lines)


def files_table(files: Sequence[Path]) -> str:
    """The files and their sizes."""
    width = max(len(path.name) for path in files)
    return "\n".join(["files", *(f"  {path.name:<{width}}  {path.stat().st_size / 2**20:8.2f} MiB" for path in files)])
