"""What the exporter must know of a network whose family was recognised: its distribution and its conditions."""

from __future__ import annotations

from pixelsnail_infer.checkpoints import LoadedCheckpoint
from pixelsnail_infer.distributions import Categorical, Distribution, LogisticMixture
from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.manifest import ConditionSpec

__all__ = ["conditions_of", "law_of"]


def law_of(checkpoint: LoadedCheckpoint, rounded: bool = False) -> Distribution:
    """How the network's pixels are distributed. Raises `PixelsnailError` for images of other than 8 bits."""
    config = checkpoint.config
    levels = getattr(config, "levels", None)
    if levels is not None:
        return Categorical(levels)
    if getattr(config, "n_bits", 8) != 8:
        raise PixelsnailError(f"the model's colours have {config.n_bits} bits (--bits); only 8 are supported, for the "
                              "likelihood and the draw are those of 256 levels.")
    n_mix = config.n_params // (10 if config.channels == 3 else 3)
    return LogisticMixture(n_mix=n_mix, channels=config.channels, round=rounded)


def conditions_of(checkpoint: LoadedCheckpoint) -> tuple[ConditionSpec, ...]:
    """The conditions that the network's forward takes by name."""
    config, specs = checkpoint.config, []
    for name, shape in config.condition_shapes.items():
        if name == "condition":
            specs.append(ConditionSpec(name, "codes", tuple(shape), "int64", config.levels))
        elif shape:
            specs.append(ConditionSpec(name, "vector", tuple(shape), "float32"))
        else:
            classes = config.n_label if hasattr(config, "n_label") else config.n_class
            specs.append(ConditionSpec(name, "class", (), "int64", classes))
    return tuple(specs)
