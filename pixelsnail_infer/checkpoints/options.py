"""What a checkpoint cannot tell about itself. A new option is a field here: the commands have it then, and Python."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from pixelsnail_infer.checkpoints.option import averages, canvas, option, switch, text, whole, yes_or_no
from pixelsnail_infer.denoiser import NOISE_SCHEDULES, PREDICTS

__all__ = ["CODEC", "DENOISER", "DENOISERS", "GENERAL", "IMAGE", "IMAGE_FAMILIES", "PRIOR", "CheckpointOptions"]

GENERAL = "what the checkpoint may not say"
PRIOR = "VQ priors"
CODEC = "VQ-VAEs and VQ first stages"
IMAGE = "models of images"
DENOISER = "denoisers"
DENOISERS = ("denoiser",)
IMAGE_FAMILIES = ("pixelsnail", "pixel-models", "pixelcnn++")
TENSORFLOW_FAMILIES = ("pixelsnail", "pixelcnn++")


@dataclass(frozen=True, slots=True)
class CheckpointOptions:
    """What the file cannot tell; the defaults are those of the public code. Each family reads what concerns it."""

    shape: tuple[int, int] | None = option(
        None, "the canvas, rows and columns: needed where the file does not tell, else a check", GENERAL, canvas,
        metavar="HxW")
    n_head: int | None = option(
        None, "attention heads (default: the file's, else the public code's)", GENERAL, whole,
        families=("vq-prior", "pixel-models", "denoiser"))
    condition_kind: Literal["label", "vector"] | None = option(
        None, "classes by number, or a weight for each, so that classes can be mixed (default: the file's, or the "
        "family's usual)", GENERAL, choices=("label", "vector"), families=(*IMAGE_FAMILIES, "pixelcnn"))
    key: str | None = option(
        None, "where the model lies in a file with several, such as prior or state_dict.prior; . is the file itself",
        GENERAL, text, metavar="NAME")
    ema: bool | str | os.PathLike[str] | None = option(
        None, "take the moving averages instead of the weights beside them (give it after the files; default: the "
        "weights, but of TensorFlow checkpoints the averages); with a FILE, pixel_models: the side file whose averages "
        "replace the weights", GENERAL, averages, metavar="FILE")
    no_ema: bool = option(
        False, "TensorFlow checkpoints: the bare variables instead of their moving averages", GENERAL, switch,
        families=TENSORFLOW_FAMILIES)
    elu_inplace: bool = option(
        False, "the model was trained with in-place ELU, as files from before July 2020 were: residuals add ELU(x)",
        PRIOR, switch, families=("vq-prior",))
    upsample: int | None = option(
        None, "factor from the condition's grid to the canvas (default 2)", PRIOR, whole, families=("vq-prior",))
    no_condition: bool = option(
        False, "leave the condition out although the file has weights for it", PRIOR, switch, families=("vq-prior",))
    relu_inplace: bool | None = option(
        None, "VQ-VAEs: whether they were trained with in-place ReLU, as files from before January 2021 and the audio "
        "code's were (default: what is usual)", CODEC, yes_or_no, choices=("yes", "no"), families=("vq-vae",))
    arch: str | None = option(
        None, "which published PixelSNAIL a TensorFlow checkpoint is: h12_noup_smallkey, h8_noup_smallkey, "
        "h12_pool2_smallkey or h6_shift", IMAGE, families=("pixelsnail",), metavar="NAME")
    nonlinearity: Literal["elu", "relu"] | None = option(
        None, "TensorFlow checkpoints: which of the two, that look alike in the file (default elu)", IMAGE,
        choices=("elu", "relu"), families=TENSORFLOW_FAMILIES)
    approximate: Literal["first-position"] | None = option(
        None, "pixel_models: its position 0 averages all positions, which no exact step can; let it attend to nothing "
        "instead", IMAGE, choices=("first-position",), families=("pixel-models",))
    bits: int | None = option(
        None, "pixel_models: bits of a colour value that it was trained with (8, the only number that is supported; "
        "the public script's default is 4)", IMAGE, whole, families=("pixel-models",))
    unsafe_pickle: bool = option(
        False, "PixelCNN saved as a whole module: unpickle it, which RUNS WHATEVER THE FILE SAYS; only for files that "
        "you made", IMAGE, switch, families=("pixelcnn",))

    n_head_upsample: int | None = option(
        None, "attention heads on the way up, the public code's num_heads_upsample (default: as many as --n-head)",
        DENOISER, whole, families=DENOISERS)
    diffusion_steps: int | None = option(
        None, "steps that it was trained with (default 1000; the published files mostly 4000)", DENOISER, whole,
        families=DENOISERS, metavar="N")
    noise_schedule: Literal["linear", "cosine"] | None = option(
        None, "how much noise each step adds (default linear; the published files mostly cosine)", DENOISER,
        choices=NOISE_SCHEDULES, families=DENOISERS)
    predict: Literal["eps", "x0", "x_prev"] | None = option(
        None, "what the network predicts: the noise, the image without any, or the image a step earlier (default eps)",
        DENOISER, choices=PREDICTS, families=DENOISERS)
    rescale_timesteps: bool | None = option(
        None, "whether the network is told times of 0 to 1000 whatever the steps (default yes)", DENOISER, yes_or_no,
        choices=("yes", "no"), families=DENOISERS)
    sigma: Literal["large", "small"] | None = option(
        None, "the variance of a step where the network does not learn it (default large)", DENOISER,
        choices=("large", "small"), families=DENOISERS)
    low_res: tuple[int, int] | None = option(
        None, "super-resolution: the size of the small picture (default a quarter of --shape)", DENOISER, canvas,
        families=DENOISERS, metavar="HxW")

    @property
    def averages(self) -> bool:
        """Whether the averages that lie beside the weights are asked for."""
        return self.ema is True

    @property
    def ema_file(self) -> str | os.PathLike[str] | None:
        """The side file of averages that is asked for."""
        return None if isinstance(self.ema, bool) else self.ema
