"""From a file to a network that is ready to run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pixelsnail_infer.checkpoints.first_stage import is_first_stage, read_first_stage
from pixelsnail_infer.checkpoints.kamen import is_kamen, read_kamen
from pixelsnail_infer.checkpoints.loaded import LoadedCheckpoint
from pixelsnail_infer.checkpoints.normalise import find_args, normalise, respelled
from pixelsnail_infer.checkpoints.options import CheckpointOptions
from pixelsnail_infer.checkpoints.pixelcnn import is_pixelcnn, read_pixelcnn
from pixelsnail_infer.checkpoints.pixelcnnpp import is_pixelcnnpp, read_pixelcnnpp
from pixelsnail_infer.checkpoints.prior import is_prior, read_prior
from pixelsnail_infer.checkpoints.reading import read_file
from pixelsnail_infer.checkpoints.snail import is_snail, read_snail
from pixelsnail_infer.checkpoints.taking import largest, take, top_keys
from pixelsnail_infer.checkpoints.tf_checkpoint import open_variables, tensorflow_path
from pixelsnail_infer.checkpoints.tf_pixelcnnpp import load_tf_pixelcnnpp, names_pixelcnnpp
from pixelsnail_infer.checkpoints.tf_snail import load_tf_snail
from pixelsnail_infer.checkpoints.unet import is_unet, read_unet
from pixelsnail_infer.checkpoints.unsafe_pickle import read_module_unsafely
from pixelsnail_infer.checkpoints.vqvae import is_vqvae, read_vqvae
from pixelsnail_infer.errors import CheckpointError
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.models import Prior, PriorConfig
from pixelsnail_infer.models.layers import NormedWeight
from pixelsnail_infer.models.prior import coordinates

__all__ = ["LoadedCheckpoint", "load_checkpoint"]

SUPPORTED = (
    "PixelSNAIL priors over VQ codes as in rosinality/vq-vae-2-pytorch and its forks, label-conditioned ones as in "
    "liuxubo717/sound_generation, the original PixelSNAIL in TensorFlow's or this project's own format, the one of "
    "kamenbliznashki/pixel_models, PixelCNN++ as openai/pixel-cnn's TensorFlow code, its PyTorch port "
    "(pclucas14/pixel-cnn-pp) or this project save it, the conditional PixelCNN of jrbtaylor/conditional-pixelcnn, as "
    "decoders the "
    "VQ-VAEs of rosinality/vq-vae-2-pytorch and its forks and the VQ first stages of CompVis/latent-diffusion, and the "
    "denoising U-Nets of openai/improved-diffusion"
)

_DEFAULTS = CheckpointOptions()


def load_checkpoint(path: str | os.PathLike[str], *, options: CheckpointOptions = _DEFAULTS) -> LoadedCheckpoint:
    """Read a checkpoint, recognise its family from names and shapes, and build its network.

    Nothing that the file says is run, and it is not changed, unless `options.unsafe_pickle` asks for it; see
    `unsafe_pickle.py`. Global state is left alone. A TensorFlow checkpoint is given by its prefix, its `.index` or one
    of its `.data-…` files, or as the single file that it is; a PixelSNAIL's needs `options.arch`.

    Raises:
        CheckpointError: the file is missing, damaged, unsafe, of an unknown model, holds NaN, or contradicts the
            options.
    """
    if options.averages and options.no_ema:
        raise CheckpointError("--ema asks for the averages and --no-ema for the bare weights; give one of the two")
    if not options.unsafe_pickle and tensorflow_path(path) is not None:
        return _load_tensorflow(path, options)
    findings: list[str] = []
    content: object
    if options.unsafe_pickle:
        content, sha256 = read_module_unsafely(path)
        findings.append("unpickled a whole module, as asked: the file could have run anything")
    else:
        content, sha256 = read_file(path)
    try:
        taken = take(content, MARKS, recognised, key=options.key, ema=options.averages, findings=findings)
        if taken is None:
            raise CheckpointError(_unknown(normalise(largest(content, options.key), findings), content))
        tensors = normalise(taken.tensors, findings)
        module = _read(taken.family, tensors, find_args(content), options, findings)
    except CheckpointError as error:
        raise CheckpointError(f"{one_line(os.fspath(path))}: {error}") from None
    return LoadedCheckpoint(taken.family, module.config, module, sha256, findings, taken.beside)


def _load_tensorflow(path: str | os.PathLike[str], options: CheckpointOptions) -> LoadedCheckpoint:
    if options.key is not None:
        raise CheckpointError("--key chooses among the entries of a PyTorch file, and a TensorFlow checkpoint has "
                              "none; leave it out")
    said: dict[str, Any] = {"ema": not options.no_ema, "shape": options.shape, "condition_kind": options.condition_kind,
                            "nonlinearity": options.nonlinearity or "elu"}
    if names_pixelcnnpp(open_variables(path)):
        return load_tf_pixelcnnpp(path, **said)
    return load_tf_snail(path, options.arch, **said)


def _unknown(tensors: dict[str, Tensor], content: object) -> str:
    seen = [f"{one_line(name, 60)} {list(tensor.shape)}" for name, tensor in list(tensors.items())[:4]]
    more = ", …" if len(tensors) > len(seen) else ""
    wrapped = isinstance(content, Mapping) and not any(isinstance(value, Tensor) for value in content.values())
    held = f", in a file that holds {top_keys(content)}" if wrapped and isinstance(content, Mapping) else ""
    return (
        f"a model that is not known: {len(tensors)} tensors ({', '.join(seen)}{more}){held}; supported are {SUPPORTED} "
        "(weight norm in place). A network of your own is exported by its class (--model FILE.py:CLASS)"
    )


def _build(config: PriorConfig, tensors: dict[str, Tensor], findings: list[str]) -> Prior:
    """The network with the file's tensors as its parameters; they must fit exactly."""
    with torch.device("meta"):
        module = Prior(config)
    state = dict(tensors)
    background = coordinates(*config.shape)
    if "background" not in state:
        state["background"] = background
        findings.append("no background buffer in the file: made the coordinates anew")
    elif state["background"].shape == background.shape and not torch.allclose(
        state["background"], background, atol=1e-3
    ):
        findings.append("the file's background differs from the usual coordinates; the file's is used")
    expected = module.state_dict()
    _compare(
        {name: tuple(tensor.shape) for name, tensor in state.items()},
        {name: tuple(tensor.shape) for name, tensor in expected.items()},
    )
    module.load_state_dict(state, assign=True)
    _check_norms(module)
    return module.eval().requires_grad_(False)


def _check_norms(module: Prior) -> None:
    """Raise a CheckpointError for a weight whose norm is 0 or overflows: every result would be NaN."""
    for name, layer in module.named_modules():
        if isinstance(layer, NormedWeight):
            norm = layer.masked_v().detach().flatten(1).norm(dim=1)
            if not (torch.isfinite(norm) & (norm > 0)).all():
                raise CheckpointError(f"{name}.weight_v has a row whose norm is 0 or infinite: the model gives NaN")


def _compare(found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]) -> None:
    """Raise a CheckpointError for the first name or shape that does not belong."""
    for name, shape in expected.items():
        if name not in found:
            raise CheckpointError(f"a VQ prior without {name}, which should have shape {list(shape)}: not complete")
        if found[name] != shape:
            raise CheckpointError(
                f"a VQ prior in which {name} has shape {list(found[name])}; {list(shape)} is expected"
            )
    for name, shape in found.items():
        if name not in expected:
            raise CheckpointError(
                f"a VQ prior with {one_line(name)} {list(shape)} in addition, which no supported variant has; "
                f"supported are {SUPPORTED}"
            )


def _read_prior(
    tensors: dict[str, Tensor], args: Mapping[str, object], options: CheckpointOptions, findings: list[str]
) -> Prior:
    config, used = read_prior(tensors, args, options, findings)
    return _build(config, used, findings)


Reader = Callable[[dict[str, Tensor], Mapping[str, object], CheckpointOptions, list[str]], Any]
FAMILIES: tuple[tuple[str, Callable[[Mapping[str, Tensor]], bool], Reader], ...] = (
    ("vq-prior", is_prior, _read_prior),
    ("pixelsnail", is_snail, read_snail),
    ("pixel-models", is_kamen, read_kamen),
    ("pixelcnn", is_pixelcnn, read_pixelcnn),
    ("pixelcnn++", is_pixelcnnpp, read_pixelcnnpp),
    ("vq-vae", is_vqvae, read_vqvae),
    ("vq-first-stage", is_first_stage, read_first_stage),
    ("denoiser", is_unet, read_unet),
)


# Beginnings of names, one of which every model of the families has.
MARKS = re.compile(
    r"(?:^|(?<=\.))(?:horizontal\.conv\.|out\.V$|output_conv\.|layers\.0\.0\.|u_init\.conv\.|dec\.blocks\.|(?:en|de)coder\.conv_(?:in|out)\.)"
    r"|(?:^|(?<=\.))time_embed\.0\."
)


def recognised(tensors: Mapping[str, Tensor]) -> str | None:
    """The family whose names these are, in either spelling of weight norm, or None."""
    spelled = {respelled(name): tensor for name, tensor in tensors.items()}
    return next((family for family, fits, _ in FAMILIES if fits(spelled)), None)


def _read(
    family: str, tensors: dict[str, Tensor], args: dict[str, object], options: CheckpointOptions, findings: list[str]
) -> Any:
    """The network. Raises CheckpointError."""
    read = next(read for name, _, read in FAMILIES if name == family)
    return read(tensors, args, options, findings)
