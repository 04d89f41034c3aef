"""What a checkpoint cannot tell about itself."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

__all__ = ["CheckpointOptions"]


@dataclass(frozen=True, slots=True)
class CheckpointOptions:
    """What the file cannot tell; the defaults are those of the public code. Each family reads what concerns it."""

    shape: tuple[int, int] | None = None
    """(H, W) that the caller wants, compared with the file; needed only if the file does not tell. Of decoders and
    encoders the image's, which no file tells; None takes the usual one."""
    n_head: int | None = None
    """Attention heads; None takes what the file's args name, or what the public code has."""
    elu_inplace: bool = False
    """VQ priors: trained before July 2020, so residuals add ELU(x)."""
    upsample: int | None = None
    """VQ priors: how many times finer the codes are than the condition codes; None is 2."""
    no_condition: bool = False
    """VQ priors: leave the condition out although its weights are in the file."""
    arch: str | None = None
    """The original PixelSNAIL: its published name; None takes what the file's args name."""
    condition_kind: Literal["label", "vector"] | None = None
    """Whether classes are given by number, or as a weight for each; None takes the file's, or the family's usual."""
    approximate: Literal["first-position"] | None = None
    """pixel_models: export although position 0 leaks, with a position 0 that attends to nothing."""
    ema_file: str | os.PathLike[str] | None = None
    """pixel_models: the optimizer's state, whose averages replace the weights."""
    bits: int | None = None
    """pixel_models: bits of a colour value; None is 8."""
    unsafe_pickle: bool = False
    """Conditional PixelCNN: unpickle a whole module, which runs whatever the file says. Only for files you made."""
    no_ema: bool = False
    """TensorFlow checkpoints: take the bare variables instead of their moving averages."""
    nonlinearity: Literal["elu", "relu"] = "elu"
    """TensorFlow checkpoints: which of the two that look alike in the file."""
    relu_inplace: bool | None = None
    """VQ-VAEs: whether residual blocks add ReLU(x), as an in-place ReLU makes them; None takes what is usual."""
