"""Which engine counts the products of a file."""

from __future__ import annotations

from pixelsnail_infer.runtime.backends.products import ProductCounter

__all__ = ["open_counter"]


def open_counter(archive: bool) -> ProductCounter:
    """What counts the products of an archive, or of ONNX files; the engine of the file was opened before."""
    if archive:
        from pixelsnail_infer.runtime.backends.torch_counting import TorchCounter

        return TorchCounter()
    from pixelsnail_infer.runtime.backends.onnxruntime_counting import OrtCounter

    return OrtCounter()
