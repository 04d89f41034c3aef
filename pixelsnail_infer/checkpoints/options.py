"""What a checkpoint cannot tell about itself."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CheckpointOptions"]


@dataclass(frozen=True, slots=True)
class CheckpointOptions:
    """What the file cannot tell; the defaults are those of the public code."""

    shape: tuple[int, int] | None = None
    """(H, W) that the caller wants, compared with the file; needed only if the file has no `background`."""
    n_head: int | None = None
    """Attention heads; None takes what the file's args name, or 8."""
    elu_inplace: bool = False
    """Trained before July 2020: residuals add ELU(x)."""
    upsample: int = 2
    """How many times finer the codes are than the condition codes."""
    no_condition: bool = False
    """Leave the condition out although its weights are in the file."""
