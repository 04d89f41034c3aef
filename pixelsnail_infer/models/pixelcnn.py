"""The conditional PixelCNN in its full-image form: grey levels in, log-probabilities for every position out.

After van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders", and the public code of
jrbtaylor/conditional-pixelcnn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.errors import ModelError, RequestError
from pixelsnail_infer.models.pixelcnn_layers import GatedBlock, MaskedConv

__all__ = ["PixelCNN", "PixelCNNConfig"]


@dataclass(frozen=True, slots=True)
class PixelCNNConfig:
    """The sizes and choices of one network; the defaults are those of the public code.

    Raises ModelError when the values cannot make a network.
    """

    shape: tuple[int, int] = (28, 28)
    """(H, W), rows and columns of the image. No file tells them; the network itself takes any."""
    n_bins: int = 4
    """Grey levels."""
    n_features: int = 200
    n_layers: int = 6
    """Layers in each half of the network."""
    n_class: int = 10
    condition: Literal["label", "vector"] = "label"
    """`label`: one class number for each image. `vector`: a weight for every class, so that classes can be mixed."""
    first_kernel: int = 7
    kernel: int = 3
    dropout: float = 0.9
    """Of whole channels, before the last block."""

    def __post_init__(self) -> None:
        height, width = self.shape
        counts = {"H": height, "W": width, "n_features": self.n_features, "n_layers": self.n_layers}
        for name, value in {**counts, "n_class": self.n_class}.items():
            if value < 1:
                raise ModelError(f"{name} is {value}; it must be 1 or more")
        if self.n_bins < 2:
            raise ModelError(f"n_bins is {self.n_bins}; there must be 2 grey levels or more")
        for name in ("first_kernel", "kernel"):
            if getattr(self, name) < 1 or getattr(self, name) % 2 == 0:
                raise ModelError(f"{name} is {getattr(self, name)}; it must be odd")
        if self.condition not in ("label", "vector"):
            raise ModelError(f"condition is {self.condition!r}; it must be 'label' or 'vector'")
        if not 0 <= self.dropout < 1:
            raise ModelError(f"dropout is {self.dropout}; it must be in [0, 1)")

    @property
    def levels(self) -> int:
        """The number of grey levels, under the name that the VQ priors have for it."""
        return self.n_bins

    @property
    def n_label(self) -> int:
        """The number of classes, under the name that the VQ priors have for it."""
        return self.n_class

    @property
    def condition_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of the condition without its batch axis, by the name that `PixelCNN.forward` takes it under."""
        return {"label": ()} if self.condition == "label" else {"h": (self.n_class,)}


class PixelCNN(nn.Module):
    """The network that `config` describes; parameters are named as in the public files.

    In training mode dropout is active and batch norm uses the batch. Thread-safe for concurrent eval-mode forwards.
    """

    def __init__(self, config: PixelCNNConfig) -> None:
        super().__init__()
        self.config = config
        width = config.n_features
        self.input_batchnorm = nn.BatchNorm2d(1)  # the public code stores it and never uses it
        first = nn.Sequential(MaskedConv("A", 2, width, config.first_kernel), nn.BatchNorm2d(width), nn.ReLU())

        def block(outputs: int, *, auxiliary: bool) -> GatedBlock:
            return GatedBlock(width, outputs, config.n_class, kernel=config.kernel, auxiliary=auxiliary)

        self.layers = nn.ModuleList([first])
        self.layers.extend(block(width, auxiliary=False) for _ in range(config.n_layers - 1))
        self.layers.extend(block(width, auxiliary=True) for _ in range(config.n_layers))
        self.layers.append(block(config.n_bins, auxiliary=False))
        self.dropout = nn.Dropout2d(config.dropout)

    def forward(self, codes: Tensor, **conditions: Tensor) -> Tensor:
        """Natural-log probabilities of every grey level at every position given all earlier ones.

        Takes codes int64 [B, H, W] in [0, n_bins), and the condition by its name: `label` int64 [B] in [0, n_class), or
        `h` float [B, n_class]. Gives float [B, n_bins, H, W]. Codes may be the first rows of the image only.

        Raises:
            RequestError: a shape is not the configured one, or a condition is missing or unknown.
        """
        self._check(codes, conditions)
        dtype = next(self.parameters()).dtype
        grey = codes.to(dtype).unsqueeze(1) / (self.config.n_bins - 1)  # [B, 1, H, W]
        return self.from_grey(grey, self._classes(conditions, dtype))

    def from_grey(self, grey: Tensor, classes: Tensor) -> Tensor:
        """The same for grey float [B, 1, H, W] in [0, 1], which need not be on the levels (the public code trains on
        full greys and rounds only the targets), and class vectors float [B, n_class]."""
        x = F.pad(grey, [0, 0, 0, 0, 0, 1], value=1.0)  # [B, 2, H, W], the last 1 where there is an image
        first, *blocks, last = self.layers
        x = first(x)
        for block in blocks:
            x = block(x, classes)
        x = last(self.dropout(x), classes)
        return F.log_softmax(x, dim=1)

    def _classes(self, conditions: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
        """Class vectors [B, n_class]."""
        if self.config.condition == "vector":
            return conditions["h"]
        return F.one_hot(conditions["label"], self.config.n_class).to(dtype)

    def _check(self, codes: Tensor, conditions: dict[str, Tensor]) -> None:
        expected: dict[str, tuple[int, ...]] = {"codes": self.config.shape, **self.config.condition_shapes}
        given = {"codes": codes, **conditions}
        if given.keys() != expected.keys():
            raise RequestError(
                f"the model takes {', '.join(expected)}, but it was given {', '.join(given)}; "
                "pass every condition by its name"
            )
        if codes.ndim == 3 and 0 < codes.shape[1] < self.config.shape[0]:
            expected["codes"] = (codes.shape[1], self.config.shape[1])
        for name, shape in expected.items():
            if given[name].shape != (codes.shape[0], *shape):
                raise RequestError(
                    f"{name} has shape {list(given[name].shape)}, but this model takes {['B', *shape]} only, "
                    "with one B for all inputs"
                )
            if name == "h" and not given[name].is_floating_point():
                raise RequestError(f"h has dtype {given[name].dtype}; class weights are floating-point")
            if name != "h" and given[name].dtype != torch.int64:
                raise RequestError(f"{name} has dtype {given[name].dtype}; it must be torch.int64")
