"""What was drawn, in the form that the client asked for: PNG, NPY or JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer import __version__
from pixelsnail_infer.runtime.files.arrays import npy
from pixelsnail_infer.runtime.files.images import as_pixels, grid_columns, make_grid, png_alone, png_grid
from pixelsnail_infer.runtime.serving.accept import preferred
from pixelsnail_infer.runtime.serving.order import Order
from pixelsnail_infer.runtime.serving.problem import Problem

__all__ = ["EVENTS", "MEDIA_TYPES", "check_picture", "chosen_form", "encode", "picture"]

EVENTS = "text/event-stream"
MEDIA_TYPES = {"png": "image/png", "json": "application/json", "npy": "application/x-npy"}
"""Those first that more programs understand."""
MOST_PIXELS = 1 << 24
"""Of a picture: 16 million take 50 MB before they are compressed."""


def chosen_form(order: Order, accept: str) -> str:
    """One of png, npy, json and events: what the order's own fields say, else the best for an Accept header; png where
    it does not matter. Raises `Problem`."""
    if order.stream:
        return "events"
    if order.format is not None:
        return order.format
    offered = {media: name for name, media in MEDIA_TYPES.items()}
    if order.stream is None:
        offered[EVENTS] = "events"
    media = preferred(accept, list(offered))
    if media is None:
        raise Problem("not-acceptable", f"Accept names none of {', '.join(offered)}.")
    return offered[media]


def check_picture(order: Order) -> int:
    """How many pixels the picture of an order has. Raises `Problem` if those are too many."""
    height, width = order.served.image_shape[:2]
    if _alone(order):
        across, down = width * (order.scale or 1), height * (order.scale or 1)
    else:
        across, down = make_grid(order.n, (height, width), captions=True, columns=_columns(order),
                                 scale=order.scale).size  # fmt: skip
    if across * down > MOST_PIXELS:
        what = f"The picture would be {across}×{down} pixels, expected at most {MOST_PIXELS:,} of them"
        raise Problem("invalid", f"{what}; give a smaller scale or n, or ask for npy.", field="scale")
    return across * down


def encode(pixels: NDArray[Any], order: Order, form: str) -> bytes:
    """The body of an answer, as `form` says: png, npy or json. `pixels` are codes [n, H, W] or images [n, H, W, C]."""
    if form == "npy":
        return npy(pixels)
    if form == "png":
        return _png(pixels, order)
    told = {
        "model": order.served.name,
        "n": order.n,
        "seed": order.seed,
        "shape": list(pixels.shape),
        "dtype": str(pixels.dtype),
        "pixels": pixels.tolist(),
    }
    return json.dumps(told, separators=(",", ":"), allow_nan=False).encode()


def picture(image: NDArray[Any], order: Order) -> bytes:
    """A PNG of one of several images, without text."""
    tiles = image[None] if order.served.levels is not None else as_pixels(image[None], order.served.values)
    return png_alone(tiles[0], order.served.levels)


def _png(pixels: NDArray[Any], order: Order) -> bytes:
    """As `pixelsnail-infer sample` writes it: one image alone, several as a grid."""
    text = {
        "Software": f"pixelsnail-infer {__version__}",
        "model": ", ".join(order.served.files),
        "checkpoint_sha256": ", ".join(manifest.checkpoint.sha256 for manifest in order.served.manifests),
    }
    settings = {"seed": order.seed} | {name: order.arguments.get(name) for name in ("temperature", "top_k", "top_p")}
    text |= {name: _setting(value) for name, value in settings.items() if value is not None}
    tiles = pixels if order.served.levels is not None else as_pixels(pixels, order.served.values)
    captions = None if order.labels is None else [str(label) for label in order.labels]
    if _alone(order):
        text |= {"label": captions[0]} if captions else {}
        return png_alone(tiles[0], order.served.levels, scale=order.scale, text=text)
    text |= {"images": str(order.n)} | ({"labels": ",".join(captions)} if captions else {})
    return png_grid(tiles, order.served.levels, captions=captions, columns=_columns(order), scale=order.scale,
                    text=text)  # fmt: skip


def _alone(order: Order) -> bool:
    return order.n == 1 and order.columns is None


def _columns(order: Order) -> int:
    return order.columns or grid_columns(order.n, list(dict.fromkeys(order.labels or ())))


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_setting, value))
    if value is None:
        return "off"
    return ",".join(f"{one:.6g}" if isinstance(one, float) else str(one) for one in np.ravel(value).tolist())
